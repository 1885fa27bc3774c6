// A user's host program: meta-trains the recipe it is given and shows that the
// capsule reads back.
//
//   host_program RECIPE.toml FOLDER
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include <cstdio>

#include "fewstep/host/capsule_writer.h"
#include "fewstep/host/error.h"
#include "fewstep/host/recipe.h"
#include "fewstep/host/trainer.h"

int main(int argc, char** argv) {
  namespace host = fewstep::host;
  if (argc != 3) return 2;
  try {
    host::Recipe recipe = host::load_recipe(argv[1], {"outer.iterations=20"});
    host::TrainOptions options;
    options.quiet = true;
    const host::TrainResult result = host::train(recipe, argv[2], options);
    const host::CapsuleFile file = host::load_capsule(result.capsule);
    std::printf("%s: %u parameters after %d iterations\n",
                result.capsule.filename().c_str(),
                file.capsule.network.n_params,
                static_cast<int>(result.iterations));
    return result.iterations == 20 ? 0 : 1;
  } catch (const host::Error& error) {
    std::fprintf(stderr, "host_program: %s\n", error.what());
    return 1;
  }
}
