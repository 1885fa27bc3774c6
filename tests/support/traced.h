// Traced: float that reports each of its loads and stores to AccessLog.
//
// Copying, assigning and operating on a Traced load it; constructing and
// assigning store it. Dual<Traced> reports through its members.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_TESTS_SUPPORT_TRACED_H_
#define FEWSTEP_TESTS_SUPPORT_TRACED_H_

#include "fewstep/numerics/elementary.h"
#include "fewstep/numerics/real.h"
#include "support/checking_executor.h"

namespace fewstep {

class Traced {
 public:
  Traced() = default;  // An uninitialized local: not a store.
  explicit Traced(float v) : v_(v) { stored(); }
  Traced(const Traced& other) : v_(other.load()) { stored(); }
  Traced& operator=(const Traced& other) {
    v_ = other.load();
    stored();
    return *this;
  }
  ~Traced() = default;

  float load() const {
    if (auto* log = testing::AccessLog::active()) log->on_read(this);
    return v_;
  }
  /// For checking results: not a load.
  float peek() const { return v_; }

 private:
  void stored() const {
    if (auto* log = testing::AccessLog::active()) log->on_write(this);
  }
  float v_;
};
static_assert(sizeof(Traced) == 4, "AccessLog counts in units of four bytes");

template <>
struct Number<Traced> {
  using Mask = uint32_t;
  using Bits = uint32_t;
  using Primal = Traced;
  using Label = uint16_t;
  static Traced constant(float x) { return Traced(x); }
};

inline Traced operator+(const Traced& a, const Traced& b) {
  return Traced(a.load() + b.load());
}
inline Traced operator-(const Traced& a, const Traced& b) {
  return Traced(a.load() - b.load());
}
inline Traced operator*(const Traced& a, const Traced& b) {
  return Traced(a.load() * b.load());
}
inline Traced operator/(const Traced& a, const Traced& b) {
  return Traced(a.load() / b.load());
}
inline Traced operator-(const Traced& a) { return Traced(-a.load()); }
inline Traced fma(const Traced& a, const Traced& b, const Traced& c) {
  return Traced(fma(a.load(), b.load(), c.load()));
}
inline Traced sigmoid(const Traced& a) { return Traced(sigmoid(a.load())); }
inline Traced sqrt(const Traced& a) { return Traced(sqrt(a.load())); }
inline Traced abs(const Traced& a) { return Traced(abs(a.load())); }
inline Traced exp(const Traced& a) { return Traced(exp(a.load())); }
inline Traced log(const Traced& a) { return Traced(log(a.load())); }
inline Traced tanh(const Traced& a) { return Traced(tanh(a.load())); }
inline uint32_t less_equal(const Traced& a, const Traced& b) {
  return less_equal(a.load(), b.load());
}
inline uint32_t exceeds(const Traced& a, const Traced& b) {
  return exceeds(a.load(), b.load());
}
inline bool operator>(const Traced& a, const Traced& b) {
  return a.load() > b.load();
}
inline bool is_finite(const Traced& a) { return is_finite(a.load()); }
inline Traced select(uint32_t mask, const Traced& a, const Traced& b) {
  return Traced(select(mask, a.load(), b.load()));
}

}  // namespace fewstep

#endif  // FEWSTEP_TESTS_SUPPORT_TRACED_H_
