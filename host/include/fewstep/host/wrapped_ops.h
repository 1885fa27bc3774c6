// A layer of operations around others: what such layers hand on unchanged.
//
// dropout.h and cpu/tape.h stand between the inner loop and the kernels and
// change what layers do. Losses and rules they leave alone.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_WRAPPED_OPS_H_
#define FEWSTEP_HOST_WRAPPED_OPS_H_

#include "fewstep/losses/loss.h"
#include "fewstep/rules/rule.h"

namespace fewstep::host {

/// Base of an Ops (inner_loop.h) around `Ops`: its loss and its rule.
template <class Ops>
class WrappedOps {
 public:
  template <class E, class T>
  void loss(const E& e, LossOp op, const LossCall<T>& c) const {
    ops_.loss(e, op, c);
  }
  template <class W, class R, class E, class T>
  void update(const E& e,
              const RuleCall<T>& c,
              const W& theta,
              const R& phi) const {
    ops_.template update<W, R>(e, c, theta, phi);
  }
  template <class E, class T, class W, class R>
  void vjp(const E& e,
           const RuleVjpCall<T>& c,
           const W& theta,
           const R& phi) const {
    ops_.vjp(e, c, theta, phi);
  }

 protected:
  explicit WrappedOps(const Ops& ops) : ops_(ops) {}
  Ops ops_;
};

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_WRAPPED_OPS_H_
