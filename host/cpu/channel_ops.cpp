// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "channel_ops_impl.h"

namespace fewstep::host {

template class ChannelRunner<Channels>;

}  // namespace fewstep::host
