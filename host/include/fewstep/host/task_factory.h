// The task source a recipe asks for.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_TASK_FACTORY_H_
#define FEWSTEP_HOST_TASK_FACTORY_H_

#include <memory>

#include "fewstep/host/recipe.h"
#include "fewstep/host/task_source.h"

namespace fewstep::host {

/// Opens the recipe's data and checks that its episodes fit its network.
///
/// `episodes` with a validation or a test file serves each split from its own
/// file (the training file where there is none).
///
/// Errors: kBadData when data is missing or unusable, kUsage when it
/// contradicts the recipe (too few classes, images or outputs).
std::unique_ptr<TaskSource> make_task_source(const Recipe& recipe);

/// Checks that inner.batch cuts a support set of `shape` into minibatches and
/// that inner.steps take each of them. Before training only: what is trained
/// may be evaluated on support sets of other sizes.
///
/// Errors: kUsage.
void check_minibatches(const Recipe& recipe, const EpisodeShape& shape);

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_TASK_FACTORY_H_
