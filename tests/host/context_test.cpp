// Context parameters from a recipe to a device: what adapts, where it starts,
// what it costs, and what is refused.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "fewstep/device/every_op.h"
#include "fewstep/device/session.h"
#include "fewstep/host/capsule_writer.h"
#include "fewstep/host/error.h"
#include "fewstep/host/network_builder.h"
#include "fewstep/host/npz.h"
#include "fewstep/host/recipe.h"
#include "fewstep/host/trainer.h"
#include "support/temp_dir.h"

namespace fewstep::host {
namespace {

using ::testing::HasSubstr;

std::string recipe(const std::string& layers, const std::string& inner) {
  return R"(seed = 2
[task]
source = "sinusoid"
family = "maml"
shots = 10
queries = 10
[network]
input = [1, 1, 1]
layers = [)" +
         layers + R"(]
loss = "mean_squared_error"
[inner]
rule = "sgd"
rate = 0.5
)" + inner +
         R"(
[outer]
rate = 1e-2
tasks = 4
iterations = 30
)";
}

constexpr const char* kCavia =
    R"({op = "context", units = 3}, {op = "dense", units = 8}, {op = "relu"},
  {op = "dense", units = 1})";

std::string error_of(const std::string& text) {
  try {
    static_cast<void>(parse_recipe(text, "r.toml"));
  } catch (const Error& e) {
    EXPECT_EQ(e.exit(), Exit::kUsage);
    return e.what();
  }
  return "accepted";
}

TEST(Context, IsAllThatAdapts) {
  const Recipe r =
      parse_recipe(recipe(kCavia, "adapt = \"context\""), "r.toml");
  EXPECT_EQ(r.inner.adapt, Adapt::kContext);
  const PlannedNetwork planned = build_network(r);
  EXPECT_EQ(planned.network.n_adapted, 3U);
  // 3 + 8 (1 + 3 + 1) + 8 + 1 parameters.
  EXPECT_EQ(planned.network.n_params, 52U);
  EXPECT_EQ(planned.adapted,
            (std::vector<uint32_t>{0, kFrozen, kFrozen, kFrozen}));
  const std::string once = to_toml(r);
  EXPECT_THAT(once, HasSubstr("{op = \"context\", units = 3}"));
  EXPECT_THAT(once, HasSubstr("adapt = \"context\""));
  EXPECT_EQ(to_toml(parse_recipe(once, "r.toml")), once);
  // By name it is the same, and beside others it may be, too.
  EXPECT_EQ(build_network(parse_recipe(recipe(kCavia, "adapt = [\"context1\"]"),
                                       "r.toml"))
                .adapted,
            planned.adapted);
  EXPECT_EQ(error_of(recipe(kCavia, "")), "accepted");
}

TEST(Context, RefusesWhatMakesNoSense) {
  const std::string cavia = "adapt = \"context\"";
  EXPECT_THAT(
      error_of(recipe(R"({op = "dense", units = 1})", cavia)),
      HasSubstr("inner.adapt: the network has no context layer; put {op = "
                "\"context\", units = 4} below the layer that is to read it"));
  EXPECT_THAT(error_of(recipe(kCavia, "adapt = \"head\"")),
              HasSubstr("inner.adapt: \"context1\" would not adapt and stay "
                        "at 0"));
  EXPECT_THAT(error_of(recipe(kCavia, "adapt = [\"dense2\"]")),
              HasSubstr("\"context1\" would not adapt"));
  EXPECT_THAT(
      error_of(recipe(
          R"({op = "context", units = 0}, {op = "dense", units = 1})", cavia)),
      HasSubstr("network.layers.0.units: must be an integer from 1"));
  EXPECT_THAT(error_of(recipe(R"({op = "context", groups = 2})", cavia)),
              HasSubstr("unknown key network.layers.0.groups in context"));
  // A convolution's output is no vector.
  std::string conv = recipe(
      R"({op = "conv2d", filters = 2, kernel = 1}, {op = "context", units = 2},
        {op = "dense", units = 1})",
      cavia);
  conv.replace(conv.find("[1, 1, 1]"), 9, "[1, 2, 2]");
  EXPECT_THAT(
      error_of(conv),
      HasSubstr("network.layers.1 (context): appends to a vector: needs a flat "
                "input, such as flatten or dense gives, and no channels by "
                "height by width; its input is 2x2x2"));
}

// The outer loop learns all but the context, which each task starts at 0: on a
// device, too, that keeps three numbers in RAM.
TEST(Context, StartsEveryTaskAtZero) {
  for (const char* adapt : {"context", "all"}) {
    SCOPED_TRACE(adapt);
    const Recipe r = parse_recipe(
        recipe(kCavia, std::string("adapt = \"") + adapt + "\""), "r.toml");
    const OuterState before = initial_state(r);
    const testing::TempDir dir;
    TrainOptions options;
    options.quiet = true;
    const TrainResult result = train(r, dir / "run", options);
    ASSERT_TRUE(result.written);
    const CapsuleFile file = load_capsule(result.capsule);
    const std::vector<float> theta = decode_init(file.capsule);
    for (size_t i = 0; i < theta.size(); ++i) {
      if (i < 3) {
        EXPECT_EQ(theta[i], 0.0F) << i;
        EXPECT_EQ(before.theta[i], 0.0F) << i;
      }
    }
    EXPECT_NE(theta, before.theta);

    SessionOptions session_options;
    session_options.max_steps = 2;
    size_t bytes = 0;
    ASSERT_EQ(required_bytes(file.capsule, session_options, &bytes),
              Status::kOk);
    const uint32_t n_adapted = std::strcmp(adapt, "context") == 0 ? 3 : 52;
    // The loss, and of one example its loss and activations; two vectors.
    EXPECT_EQ(bytes, 4 * (1 + 1 + (4 + 8 + 1) + 2 * n_adapted));
    std::vector<uint64_t> arena((bytes + 7) / 8);
    Session session;
    ASSERT_EQ(session.open({file.bytes.data(), file.bytes.size()},
                           EveryOp::list,
                           {arena.data(), bytes},
                           session_options),
              Status::kOk);
    const float x[] = {0.5F, -1.0F};
    const float y[] = {3.0F, -4.0F};
    ASSERT_EQ(session.adapt({x, nullptr, y, 2}, nullptr, 2), Status::kOk);
    for (uint32_t i = 0; i < 52; ++i) {
      // Units that are dead for both examples may stay.
      if (i < 3) {
        EXPECT_NE(session.parameter(i), 0.0F) << i;
      } else if (n_adapted == 3) {
        EXPECT_EQ(session.parameter(i), theta[i]) << i;
      }
    }
    EXPECT_LE(session.high_water_bytes(), bytes);
  }
}

}  // namespace
}  // namespace fewstep::host
