// Firmware kernels of context, one object file.
//
// Naming it links the planner that knows of context layers, too, in place of
// the weak one: lib/src/context.cpp.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/layers/context.h"

#include "../op_table.h"

FEWSTEP_DEFINE_LAYER(Context, fewstep_op_context);

namespace fewstep {
namespace {

__attribute__((used)) bool (*const kPlanner)(const Network&) = &has_context;

}  // namespace
}  // namespace fewstep
