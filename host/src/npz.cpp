// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/host/npz.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <zlib.h>

#include <algorithm>
#include <limits>

#include "fewstep/host/error.h"
#include "fewstep/host/file.h"
#include "zip_reader.h"

namespace fewstep::host {

namespace {

constexpr DType kDTypes[] = {DType::kF4,
                             DType::kF8,
                             DType::kI1,
                             DType::kI2,
                             DType::kI4,
                             DType::kI8,
                             DType::kU1,
                             DType::kU2,
                             DType::kU4,
                             DType::kU8};

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr size_t kPrefixBytes = 8;  // Magic and version.

// product(shape) * size_of(dtype), or false when it does not fit 64 bits.
bool n_bytes(const NpyArray& a, uint64_t* bytes) {
  *bytes = size_of(a.dtype);
  // A zero anywhere makes the array empty, whatever the others multiply to.
  if (std::find(a.shape.begin(), a.shape.end(), 0U) != a.shape.end()) {
    *bytes = 0;
    return true;
  }
  for (const uint64_t n : a.shape) {
    if (__builtin_mul_overflow(*bytes, n, bytes)) return false;
  }
  return true;
}

// --- .npy -------------------------------------------------------------------

// The Python literal at the head of an .npy file:
// {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }
class HeaderParser {
 public:
  explicit HeaderParser(std::string_view text) : rest_(text) {}

  // False when the text is not such a literal. Keys may come in any order, once
  // each.
  bool parse() {
    if (!take('{')) return false;
    unsigned seen = 0;
    while (!take('}')) {
      std::string_view key;
      if (!string(&key) || !take(':')) return false;
      unsigned bit;
      if (key == "descr") {
        bit = 1;
        if (!string(&descr)) return false;
      } else if (key == "fortran_order") {
        bit = 2;
        if (!boolean(&fortran_order)) return false;
      } else if (key == "shape") {
        bit = 4;
        if (!tuple(&shape)) return false;
      } else {
        return false;
      }
      if ((seen & bit) != 0) return false;
      seen |= bit;
      if (!take(',')) {
        if (!take('}')) return false;
        break;
      }
    }
    skip_space();
    return rest_.empty() && seen == 7;
  }

  std::string_view descr;
  bool fortran_order = false;
  std::vector<uint64_t> shape;

 private:
  void skip_space() {
    while (!rest_.empty() && (rest_[0] == ' ' || rest_[0] == '\n' ||
                              rest_[0] == '\t' || rest_[0] == '\r'))
      rest_.remove_prefix(1);
  }
  bool take(char c) {
    skip_space();
    if (rest_.empty() || rest_[0] != c) return false;
    rest_.remove_prefix(1);
    return true;
  }
  bool word(std::string_view w) {
    skip_space();
    if (!rest_.starts_with(w)) return false;
    rest_.remove_prefix(w.size());
    return true;
  }
  bool boolean(bool* value) {
    *value = word("True");
    return *value || word("False");
  }
  bool string(std::string_view* value) {
    skip_space();
    if (rest_.empty() || (rest_[0] != '\'' && rest_[0] != '"')) return false;
    const size_t end = rest_.find(rest_[0], 1);
    if (end == rest_.npos) return false;
    *value = rest_.substr(1, end - 1);
    rest_.remove_prefix(end + 1);
    return true;
  }
  bool tuple(std::vector<uint64_t>* values) {
    if (!take('(')) return false;
    while (!take(')')) {
      uint64_t n = 0;
      skip_space();
      size_t n_digits = 0;
      while (n_digits < rest_.size() && rest_[n_digits] >= '0' &&
             rest_[n_digits] <= '9') {
        const auto digit = static_cast<uint64_t>(rest_[n_digits] - '0');
        if (__builtin_mul_overflow(n, uint64_t{10}, &n) ||
            __builtin_add_overflow(n, digit, &n))
          return false;
        ++n_digits;
      }
      // NumPy has at most 64 dimensions.
      if (n_digits == 0 || values->size() == 64) return false;
      rest_.remove_prefix(n_digits);
      values->push_back(n);
      if (!take(',')) return take(')');
    }
    return true;
  }

  std::string_view rest_;
};

// The array in `npy`, or an Error that begins with `where`.
NpyArray parse_npy(const std::vector<uint8_t>& npy, const std::string& where) {
  const auto fail = [&](const std::string& why) {
    throw Error(Exit::kBadData, where + ": " + why);
  };
  const auto fail_damaged = [&] {
    fail("not a whole .npy array; write the file again with numpy.savez");
  };
  const std::string_view text(reinterpret_cast<const char*>(npy.data()),
                              npy.size());
  if (text.size() < kPrefixBytes + 2 || !text.starts_with(kMagic))
    fail_damaged();
  const uint8_t major = npy[6];
  if (major < 1 || major > 3)
    fail(
        fmt::format(".npy version {} is unknown; fewstep reads 1 to 3", major));
  const size_t length_bytes = major == 1 ? 2 : 4;
  if (npy.size() < kPrefixBytes + length_bytes) fail_damaged();
  size_t header_bytes = 0;
  for (size_t i = 0; i < length_bytes; ++i)
    header_bytes |= size_t{npy[kPrefixBytes + i]} << (8 * i);
  const size_t start = kPrefixBytes + length_bytes;
  if (header_bytes > npy.size() - start) fail_damaged();

  HeaderParser header(text.substr(start, header_bytes));
  if (!header.parse())
    fail(
        "the .npy header is not understood; only plain arrays of numbers are "
        "read");
  if (header.fortran_order && header.shape.size() > 1)
    fail("the array is in Fortran order; save numpy.ascontiguousarray(a)");

  NpyArray array;
  array.shape = header.shape;
  const char order = header.descr.empty() ? '\0' : header.descr[0];
  const std::string_view kind =
      header.descr.substr(std::min<size_t>(1, header.descr.size()));
  const auto* dtype =
      std::find_if(std::begin(kDTypes), std::end(kDTypes), [&](DType d) {
        return kind == to_string(d);
      });
  if (dtype == std::end(kDTypes))
    fail(
        fmt::format("dtype '{}' is not read; save it with "
                    "a.astype(numpy.float32) or another of f4 f8 i1 i2 i4 i8 "
                    "u1 u2 u4 u8",
                    header.descr));
  if (order != '<' && order != '=' && !(order == '|' && size_of(*dtype) == 1))
    fail(
        fmt::format("dtype '{}' is not little-endian; save it with "
                    "a.astype('<{}')",
                    header.descr,
                    kind));
  array.dtype = *dtype;

  uint64_t bytes;
  if (!n_bytes(array, &bytes) || bytes != npy.size() - start - header_bytes)
    fail(
        fmt::format("holds {} bytes where shape ({}) of {} needs another "
                    "number; write the file again with numpy.savez",
                    npy.size() - start - header_bytes,
                    fmt::join(array.shape, ", "),
                    to_string(array.dtype)));
  array.bytes.assign(npy.begin() + static_cast<ptrdiff_t>(start + header_bytes),
                     npy.end());
  return array;
}

// Magic, version 1.0 and header, padded so that the data start at a multiple of
// 64 bytes, as NumPy writes it.
std::vector<uint8_t> npy_header(const NpyArray& a) {
  std::string text = fmt::format(
      "{{'descr': '{}{}', 'fortran_order': False, 'shape': ({}{}), }}",
      size_of(a.dtype) == 1 ? '|' : '<',
      to_string(a.dtype),
      fmt::join(a.shape, ", "),
      a.shape.size() == 1 ? "," : "");
  const size_t start = kPrefixBytes + 2;
  text.append(63 - (start + text.size()) % 64, ' ');
  text.push_back('\n');
  std::vector<uint8_t> header(kMagic.begin(), kMagic.end());
  header.push_back(1);
  header.push_back(0);
  header.push_back(static_cast<uint8_t>(text.size() & 0xff));
  header.push_back(static_cast<uint8_t>(text.size() >> 8));
  header.insert(header.end(), text.begin(), text.end());
  return header;
}

// --- zip --------------------------------------------------------------------

void put(std::vector<uint8_t>* out, uint32_t value, int n) {
  for (int i = 0; i < n; ++i)
    out->push_back(static_cast<uint8_t>(value >> (8 * i)));
}

struct Member {
  std::string name;
  uint32_t crc;
  uint32_t bytes;
  uint32_t offset;
};

// What the local and the central header of a member share.
void put_common(std::vector<uint8_t>* out, const Member& m) {
  put(out, 20, 2);      // Needs version 2.0.
  put(out, 0x0800, 2);  // The name is UTF-8.
  put(out, 0, 2);       // Stored.
  put(out, 0, 2);       // Time 0:00.
  put(out, 0x21, 2);    // Date 1980-01-01, the earliest there is.
  put(out, m.crc, 4);
  put(out, m.bytes, 4);
  put(out, m.bytes, 4);
  put(out, static_cast<uint32_t>(m.name.size()), 2);
  put(out, 0, 2);  // No extra field.
}

template <class T, class U>
void convert(const NpyArray& a, std::vector<U>* out) {
  for (size_t i = 0; i < out->size(); ++i) {
    T value;
    std::memcpy(&value, a.bytes.data() + i * sizeof(T), sizeof(T));
    (*out)[i] = static_cast<U>(value);
  }
}

template <class U>
std::vector<U> convert_any(const NpyArray& a) {
  std::vector<U> out(a.size());
  switch (a.dtype) {
    case DType::kF4: convert<float>(a, &out); break;
    case DType::kF8: convert<double>(a, &out); break;
    case DType::kI1: convert<int8_t>(a, &out); break;
    case DType::kI2: convert<int16_t>(a, &out); break;
    case DType::kI4: convert<int32_t>(a, &out); break;
    case DType::kI8: convert<int64_t>(a, &out); break;
    case DType::kU1: convert<uint8_t>(a, &out); break;
    case DType::kU2: convert<uint16_t>(a, &out); break;
    case DType::kU4: convert<uint32_t>(a, &out); break;
    case DType::kU8: convert<uint64_t>(a, &out); break;
  }
  return out;
}

}  // namespace

const char* to_string(DType dtype) {
  switch (dtype) {
    case DType::kF4: return "f4";
    case DType::kF8: return "f8";
    case DType::kI1: return "i1";
    case DType::kI2: return "i2";
    case DType::kI4: return "i4";
    case DType::kI8: return "i8";
    case DType::kU1: return "u1";
    case DType::kU2: return "u2";
    case DType::kU4: return "u4";
    case DType::kU8: return "u8";
  }
  return "unknown dtype";
}

size_t size_of(DType dtype) {
  return static_cast<size_t>(to_string(dtype)[1] - '0');
}

Npz Npz::read(const std::filesystem::path& path) {
  constexpr std::string_view kSuffix = ".npy";
  Npz npz;
  npz.origin_ = path.string();
  ZipReader zip(path);
  std::string member;
  while (zip.next(&member)) {
    const std::vector<uint8_t> bytes = zip.read();
    if (!member.ends_with(kSuffix)) continue;
    const std::string name = member.substr(0, member.size() - kSuffix.size());
    if (npz.has(name))
      throw Error(Exit::kBadData,
                  fmt::format("{}: array '{}' is there twice; write the file "
                              "again with numpy.savez",
                              npz.origin_,
                              name));
    npz.arrays_.emplace_back(
        name,
        parse_npy(bytes, fmt::format("{}: array '{}'", npz.origin_, name)));
  }
  return npz;
}

std::vector<uint8_t> Npz::to_bytes() const {
  constexpr uint64_t kLimit = std::numeric_limits<uint32_t>::max();
  std::vector<uint8_t> out;
  std::vector<Member> members;
  for (const auto& [name, array] : arrays_) {
    const std::vector<uint8_t> header = npy_header(array);
    const uint64_t bytes = header.size() + array.bytes.size();
    if (bytes + out.size() > kLimit - (uint64_t{1} << 20))
      throw Error(Exit::kUsage,
                  fmt::format("{}: array '{}' would make an NPZ file of over 4 "
                              "GiB; split it into several files",
                              origin_,
                              name));
    uLong crc = crc32_z(0, header.data(), header.size());
    // A null pointer, as an empty vector may have, would restart the sum.
    if (!array.bytes.empty())
      crc = crc32_z(crc, array.bytes.data(), array.bytes.size());
    Member m{name + ".npy",
             static_cast<uint32_t>(crc),
             static_cast<uint32_t>(bytes),
             static_cast<uint32_t>(out.size())};
    put(&out, 0x04034b50, 4);
    put_common(&out, m);
    out.insert(out.end(), m.name.begin(), m.name.end());
    out.insert(out.end(), header.begin(), header.end());
    out.insert(out.end(), array.bytes.begin(), array.bytes.end());
    members.push_back(std::move(m));
  }
  const auto directory = static_cast<uint32_t>(out.size());
  for (const Member& m : members) {
    put(&out, 0x02014b50, 4);
    put(&out, 0x031e, 2);  // Made by version 3.0, on Unix.
    put_common(&out, m);
    put(&out, 0, 2);               // No comment.
    put(&out, 0, 2);               // Disk 0.
    put(&out, 0, 2);               // Internal attributes.
    put(&out, 0100644U << 16, 4);  // A file, rw-r--r--.
    put(&out, m.offset, 4);
    out.insert(out.end(), m.name.begin(), m.name.end());
  }
  const auto directory_bytes = static_cast<uint32_t>(out.size()) - directory;
  put(&out, 0x06054b50, 4);
  put(&out, 0, 4);  // One disk only.
  put(&out, static_cast<uint32_t>(members.size()), 2);
  put(&out, static_cast<uint32_t>(members.size()), 2);
  put(&out, directory_bytes, 4);
  put(&out, directory, 4);
  put(&out, 0, 2);  // No comment.
  return out;
}

void Npz::save(const std::filesystem::path& path) const {
  save_file_atomically(path, to_bytes());
}

const NpyArray* Npz::find(std::string_view name) const {
  for (const auto& [n, a] : arrays_) {
    if (n == name) return &a;
  }
  return nullptr;
}

const NpyArray& Npz::at(std::string_view name) const {
  if (const NpyArray* a = find(name)) return *a;
  std::vector<std::string> names;
  for (const auto& entry : arrays_) names.push_back(entry.first);
  throw Error(
      Exit::kBadData,
      fmt::format(
          "{}: no array '{}'; it has {}",
          origin_,
          name,
          names.empty() ? "none" : fmt::format("{}", fmt::join(names, ", "))));
}

void Npz::set(std::string_view name, NpyArray array) {
  uint64_t bytes;
  if (!n_bytes(array, &bytes) || bytes != array.bytes.size() || name.empty() ||
      name.size() > 1024)
    throw Error(Exit::kInternal,
                fmt::format("array '{}': {} bytes do not fill shape ({})",
                            name,
                            array.bytes.size(),
                            fmt::join(array.shape, ", ")));
  for (auto& [n, a] : arrays_) {
    if (n == name) {
      a = std::move(array);
      return;
    }
  }
  arrays_.emplace_back(name, std::move(array));
}

std::vector<float> Npz::floats(std::string_view name) const {
  return convert_any<float>(at(name));
}

std::vector<int64_t> Npz::integers(std::string_view name) const {
  const NpyArray& a = at(name);
  if (is_float(a.dtype))
    throw Error(Exit::kBadData,
                fmt::format("{}: array '{}' is {}; it has to be of an integer "
                            "type: save it with a.astype(numpy.int64)",
                            origin_,
                            name,
                            to_string(a.dtype)));
  std::vector<int64_t> values = convert_any<int64_t>(a);
  if (a.dtype == DType::kU8 &&
      std::any_of(
          values.begin(), values.end(), [](int64_t v) { return v < 0; }))
    throw Error(Exit::kBadData,
                fmt::format("{}: array '{}' has a value above 2^63 - 1; save "
                            "it as int64",
                            origin_,
                            name));
  return values;
}

const NpyArray& Npz::require(std::string_view name, DType dtype) const {
  const NpyArray& a = at(name);
  if (a.dtype != dtype)
    throw Error(Exit::kBadData,
                fmt::format("{}: array '{}' is {}; it has to be {}: save it "
                            "with a.astype('<{}')",
                            origin_,
                            name,
                            to_string(a.dtype),
                            to_string(dtype),
                            to_string(dtype)));
  return a;
}

void Npz::fail_scalar(std::string_view name) const {
  throw Error(Exit::kBadData,
              fmt::format("{}: array '{}' has shape ({}); it has to be one "
                          "number",
                          origin_,
                          name,
                          fmt::join(at(name).shape, ", ")));
}

}  // namespace fewstep::host
