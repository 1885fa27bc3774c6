// NumPy's .npz files: named arrays in a zip.
//
// Reads .npy 1.0, 2.0 and 3.0, little-endian, C order, dtypes f4 f8 i1 i2 i4
// i8 u1 u2 u4 u8, stored or deflated. Writes .npy 1.0, stored, with fixed time
// stamps: equal contents give equal bytes.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_HOST_NPZ_H_
#define FEWSTEP_HOST_NPZ_H_

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace fewstep::host {

enum class DType : uint8_t {
  kF4,
  kF8,
  kI1,
  kI2,
  kI4,
  kI8,
  kU1,
  kU2,
  kU4,
  kU8,
};

/// NumPy's name without the byte order, e.g. "f4".
const char* to_string(DType dtype);
/// Bytes of one element.
size_t size_of(DType dtype);
inline bool is_float(DType d) { return d == DType::kF4 || d == DType::kF8; }

template <class T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::kF4;
};
template <>
struct DTypeOf<double> {
  static constexpr DType value = DType::kF8;
};
template <>
struct DTypeOf<int8_t> {
  static constexpr DType value = DType::kI1;
};
template <>
struct DTypeOf<int16_t> {
  static constexpr DType value = DType::kI2;
};
template <>
struct DTypeOf<int32_t> {
  static constexpr DType value = DType::kI4;
};
template <>
struct DTypeOf<int64_t> {
  static constexpr DType value = DType::kI8;
};
template <>
struct DTypeOf<uint8_t> {
  static constexpr DType value = DType::kU1;
};
template <>
struct DTypeOf<uint16_t> {
  static constexpr DType value = DType::kU2;
};
template <>
struct DTypeOf<uint32_t> {
  static constexpr DType value = DType::kU4;
};
template <>
struct DTypeOf<uint64_t> {
  static constexpr DType value = DType::kU8;
};

/// One array: bytes.size() = product(shape) * size_of(dtype). No dimensions
/// means a scalar.
struct NpyArray {
  DType dtype = DType::kF4;
  std::vector<uint64_t> shape;
  std::vector<uint8_t> bytes;

  uint64_t size() const { return bytes.size() / size_of(dtype); }
  bool operator==(const NpyArray&) const = default;
};

/// Named arrays, in the order they were set or lie in the file.
class Npz {
 public:
  Npz() = default;

  /// Reads `path` whole and checks it: zip structure, each member's CRC-32,
  /// header and length. Members that are not .npy are skipped.
  ///
  /// @throws Error kBadData naming the file, the array and the remedy.
  static Npz read(const std::filesystem::path& path);

  /// The file's bytes. @throws Error kUsage above 4 GiB (no ZIP64).
  std::vector<uint8_t> to_bytes() const;

  /// Writes `path` as save_file_atomically() does; kResource if that fails.
  void save(const std::filesystem::path& path) const;

  /// Names what messages call this file; read() sets it to the path.
  void set_origin(std::string origin) { origin_ = std::move(origin); }

  bool has(std::string_view name) const { return find(name) != nullptr; }
  const NpyArray* find(std::string_view name) const;
  /// @throws Error kBadData when there is no such array, listing those there.
  const NpyArray& at(std::string_view name) const;
  const std::vector<std::pair<std::string, NpyArray>>& arrays() const {
    return arrays_;
  }

  /// Sets or replaces an array. `name` has no ".npy". bytes and shape agree, or
  /// Error kInternal.
  void set(std::string_view name, NpyArray array);
  template <class T>
  void set(std::string_view name,
           std::vector<uint64_t> shape,
           std::span<const T> values) {
    NpyArray a{DTypeOf<T>::value, std::move(shape), {}};
    a.bytes.resize(values.size_bytes());
    if (!values.empty())
      std::memcpy(a.bytes.data(), values.data(), values.size_bytes());
    set(name, std::move(a));
  }
  template <class T>
  void set_scalar(std::string_view name, T value) {
    set<T>(name, {}, std::span<const T>(&value, 1));
  }

  /// The values of an array whose dtype is exactly T's.
  ///
  /// @throws Error kBadData when it is missing or of another dtype.
  template <class T>
  std::vector<T> get(std::string_view name) const {
    const NpyArray& a = require(name, DTypeOf<T>::value);
    std::vector<T> values(a.size());
    if (!values.empty())
      std::memcpy(values.data(), a.bytes.data(), a.bytes.size());
    return values;
  }
  /// As get(), and the array must hold exactly one value.
  template <class T>
  T get_scalar(std::string_view name) const {
    const std::vector<T> v = get<T>(name);
    if (v.size() != 1) fail_scalar(name);
    return v[0];
  }

  /// The values of an array of any dtype, rounded to float.
  std::vector<float> floats(std::string_view name) const;
  /// The values of an array of any integer dtype; kBadData for a float one or a
  /// value above 2^63 - 1.
  std::vector<int64_t> integers(std::string_view name) const;

 private:
  const NpyArray& require(std::string_view name, DType dtype) const;
  [[noreturn]] void fail_scalar(std::string_view name) const;

  std::vector<std::pair<std::string, NpyArray>> arrays_;
  std::string origin_ = "arrays in memory";
};

}  // namespace fewstep::host

#endif  // FEWSTEP_HOST_NPZ_H_
