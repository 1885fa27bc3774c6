// Meta-gradients, a task a cluster.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "kernel_of_tasks.h"

namespace fewstep::host {

const void* meta_gradients_of_clusters() {
  return reinterpret_cast<const void*>(&meta_gradients<ClusterTeam>);
}

}  // namespace fewstep::host
