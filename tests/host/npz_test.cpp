// NPZ: what NumPy wrote is read, what is written is byte-stable, and a damaged
// file is refused.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/host/npz.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include <fstream>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "support/expect_error.h"
#include "support/temp_dir.h"

namespace fewstep::host {
namespace {

using testing::expect_error;
using testing::TempDir;

template <class T>
void set(Npz* npz, const char* name, std::vector<T> values) {
  npz->set<T>(name, {values.size()}, values);
}

// Without flushing to the disk: some tests write a thousand files.
void write(const std::filesystem::path& path, std::span<const uint8_t> bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
  ASSERT_TRUE(file.good());
}

Npz one_of_each() {
  Npz npz;
  set<float>(&npz, "f4", {1.5F, -0.0F, 1e-45F});
  set<double>(&npz, "f8", {0.1, -1e300});
  set<int8_t>(&npz, "i1", {-128, 127});
  set<int16_t>(&npz, "i2", {-32768, 32767});
  set<int32_t>(&npz, "i4", {std::numeric_limits<int32_t>::min(), 7});
  set<int64_t>(&npz, "i8", {std::numeric_limits<int64_t>::min(), 7});
  set<uint8_t>(&npz, "u1", {0, 255});
  set<uint16_t>(&npz, "u2", {0, 65535});
  set<uint32_t>(&npz, "u4", {0, 0xffffffffU});
  set<uint64_t>(&npz, "u8", {0, 0xffffffffffffffffULL});
  npz.set_scalar<uint64_t>("scalar", 42);
  npz.set<float>("empty", {0, 3}, {});
  npz.set<float>("a/b", {2, 1, 3}, std::vector<float>{1, 2, 3, 4, 5, 6});
  return npz;
}

TEST(Npz, RoundTripsEveryDtype) {
  const TempDir dir;
  const Npz written = one_of_each();
  written.save(dir / "x.npz");
  const Npz read = Npz::read(dir / "x.npz");
  EXPECT_EQ(read.arrays(), written.arrays());
  EXPECT_EQ(read.get<float>("f4"), (std::vector<float>{1.5F, -0.0F, 1e-45F}));
  EXPECT_EQ(read.get_scalar<uint64_t>("scalar"), 42U);
  EXPECT_EQ(read.integers("i1"), (std::vector<int64_t>{-128, 127}));
  EXPECT_EQ(read.floats("u2"), (std::vector<float>{0.0F, 65535.0F}));
  EXPECT_EQ(read.at("a/b").shape, (std::vector<uint64_t>{2, 1, 3}));
}

TEST(Npz, EqualContentsGiveEqualBytes) {
  EXPECT_EQ(one_of_each().to_bytes(), one_of_each().to_bytes());
}

TEST(Npz, AlignsTheDataAndEndsTheHeaderAsNumPyDoes) {
  Npz npz;
  set<float>(&npz, "x", {1.0F});
  const std::vector<uint8_t> bytes = npz.to_bytes();
  const size_t npy = 30 + std::string("x.npy").size();
  const std::string text(bytes.begin() + npy, bytes.begin() + npy + 128);
  EXPECT_EQ(text.substr(0, 8), std::string("\x93NUMPY\x01\x00", 8));
  EXPECT_EQ(text.substr(10, 58),
            "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), } ");
  EXPECT_EQ(text[127], '\n');
  float value;
  std::memcpy(&value, bytes.data() + npy + 128, sizeof value);
  EXPECT_EQ(value, 1.0F);
}

TEST(Npz, ReplacesAnArrayOfTheSameName) {
  Npz npz;
  set<float>(&npz, "x", {1.0F});
  set<int8_t>(&npz, "x", {2, 3});
  EXPECT_EQ(npz.arrays().size(), 1U);
  EXPECT_EQ(npz.integers("x"), (std::vector<int64_t>{2, 3}));
}

TEST(Npz, NamesTheArrayAndTheDtypeItWanted) {
  const TempDir dir;
  one_of_each().save(dir / "x.npz");
  const Npz npz = Npz::read(dir / "x.npz");
  expect_error([&] { npz.get<float>("theta"); },
               Exit::kBadData,
               {"x.npz", "'theta'", "f4, f8"});
  expect_error([&] { npz.get<float>("f8"); },
               Exit::kBadData,
               {"x.npz", "'f8'", "astype('<f4')"});
  expect_error([&] { npz.integers("f4"); }, Exit::kBadData, {"integer"});
  expect_error([&] { npz.integers("u8"); }, Exit::kBadData, {"2^63"});
  expect_error(
      [&] { npz.get_scalar<float>("f4"); }, Exit::kBadData, {"one number"});
}

TEST(Npz, RefusesBytesThatDoNotFillTheShape) {
  Npz npz;
  expect_error(
      [&] {
        npz.set("x", {DType::kF4, {3}, {1, 2, 3, 4}});
      },
      Exit::kInternal,
      {"'x'"});
}

TEST(Npz, RefusesAFileCutAnywhere) {
  const TempDir dir;
  Npz npz;
  set<float>(&npz, "first", {1.0F, 2.0F});
  set<int16_t>(&npz, "second", {3});
  const std::vector<uint8_t> bytes = npz.to_bytes();
  for (size_t n = 0; n < bytes.size(); ++n) {
    write(dir / "x.npz", std::span(bytes).first(n));
    expect_error([&] { Npz::read(dir / "x.npz"); }, Exit::kBadData, {"x.npz"});
  }
}

// A flip in a name or in a field that nothing depends on may pass, but then
// under another name or with the same arrays: never other numbers.
TEST(Npz, NeverReadsOtherNumbersFromAFlippedByte) {
  const TempDir dir;
  Npz npz;
  set<float>(&npz, "first", {1.0F, 2.0F});
  set<int16_t>(&npz, "second", {3});
  const std::vector<uint8_t> bytes = npz.to_bytes();
  int n_refused = 0;
  for (size_t i = 0; i < bytes.size(); ++i) {
    for (const int flip : {0x01, 0x80, 0xff}) {
      std::vector<uint8_t> bad = bytes;
      bad[i] = static_cast<uint8_t>(bad[i] ^ flip);
      write(dir / "x.npz", bad);
      try {
        const Npz read = Npz::read(dir / "x.npz");
        for (const char* name : {"first", "second"}) {
          if (const NpyArray* a = read.find(name)) {
            EXPECT_EQ(*a, npz.at(name)) << "byte " << i;
          }
        }
      } catch (const Error& e) {
        EXPECT_EQ(e.exit(), Exit::kBadData);
        ++n_refused;
      }
    }
  }
  // Contents and headers of both arrays are covered by the CRC.
  EXPECT_GT(n_refused, 2 * 128 * 3);
}

// --- Files as other writers make them ---------------------------------------

void put(std::string* out, uint64_t value, int n) {
  for (int i = 0; i < n; ++i)
    out->push_back(static_cast<char>(value >> (8 * i)));
}

std::string npy(const std::string& header,
                const std::string& data,
                char major = 1) {
  std::string out = std::string("\x93NUMPY") + major + '\0';
  put(&out, header.size(), major == 1 ? 2 : 4);
  return out + header + data;
}

// A zip of one deflated member, with the ZIP64 local sizes and the data
// descriptor bit that numpy.savez_compressed leaves.
std::vector<uint8_t> deflated_npz(const std::string& name,
                                  const std::string& content) {
  z_stream z{};
  std::string packed(content.size() + 1000, '\0');
  EXPECT_EQ(deflateInit2(&z, 9, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string in = content;
  z.next_in = reinterpret_cast<Bytef*>(in.data());
  z.avail_in = static_cast<uInt>(in.size());
  z.next_out = reinterpret_cast<Bytef*>(packed.data());
  z.avail_out = static_cast<uInt>(packed.size());
  EXPECT_EQ(deflate(&z, Z_FINISH), Z_STREAM_END);
  packed.resize(z.total_out);
  deflateEnd(&z);
  const uLong crc = crc32_z(
      0, reinterpret_cast<const Bytef*>(content.data()), content.size());

  std::string out;
  put(&out, 0x04034b50, 4);
  put(&out, 45, 2);
  put(&out, 0, 2);
  put(&out, 8, 2);
  put(&out, 0x58c12345, 4);
  put(&out, crc, 4);
  put(&out, 0xffffffffU, 4);
  put(&out, 0xffffffffU, 4);
  put(&out, name.size(), 2);
  put(&out, 20, 2);
  out += name;
  put(&out, 1, 2);
  put(&out, 16, 2);
  put(&out, content.size(), 8);
  put(&out, packed.size(), 8);
  out += packed;
  const size_t directory = out.size();
  put(&out, 0x02014b50, 4);
  put(&out, 45, 2);
  put(&out, 45, 2);
  put(&out, 0, 2);
  put(&out, 8, 2);
  put(&out, 0x58c12345, 4);
  put(&out, crc, 4);
  put(&out, packed.size(), 4);
  put(&out, content.size(), 4);
  put(&out, name.size(), 2);
  put(&out, 0, 2 + 2 + 2);
  put(&out, 0, 2);
  put(&out, 0, 4);
  put(&out, 0, 4);
  out += name;
  const size_t end = out.size();
  put(&out, 0x06054b50, 4);
  put(&out, 0, 4);
  put(&out, 1, 2);
  put(&out, 1, 2);
  put(&out, end - directory, 4);
  put(&out, directory, 4);
  put(&out, 0, 2);
  return {out.begin(), out.end()};
}

constexpr const char* kHeader =
    "{'descr': '<i2', 'fortran_order': False, 'shape': (2, 2), }        \n";
const std::string kData("\x01\x00\x02\x00\x03\x00\xff\xff", 8);

TEST(Npz, ReadsDeflatedMembers) {
  const TempDir dir;
  write(dir / "x.npz", deflated_npz("x.npy", npy(kHeader, kData)));
  const Npz npz = Npz::read(dir / "x.npz");
  EXPECT_EQ(npz.at("x").shape, (std::vector<uint64_t>{2, 2}));
  EXPECT_EQ(npz.integers("x"), (std::vector<int64_t>{1, 2, 3, -1}));
}

TEST(Npz, ReadsVersion2AndKeysInAnyOrder) {
  const TempDir dir;
  write(dir / "x.npz",
        deflated_npz("x.npy",
                     npy("{\"shape\": (4,), 'fortran_order': True,\n"
                         "'descr':\"<i2\"}",
                         kData,
                         2)));
  EXPECT_EQ(Npz::read(dir / "x.npz").integers("x"),
            (std::vector<int64_t>{1, 2, 3, -1}));
}

TEST(Npz, SkipsMembersThatAreNotArrays) {
  const TempDir dir;
  write(dir / "x.npz", deflated_npz("readme.txt", "hello"));
  EXPECT_TRUE(Npz::read(dir / "x.npz").arrays().empty());
}

struct BadNpy {
  const char* name;
  std::string content;
  const char* word;
};
void PrintTo(const BadNpy& b, std::ostream* os) { *os << b.name; }

class NpzRefuses : public ::testing::TestWithParam<BadNpy> {};

TEST_P(NpzRefuses, NamingFileArrayAndRemedy) {
  const TempDir dir;
  write(dir / "x.npz", deflated_npz("x.npy", GetParam().content));
  expect_error([&] { Npz::read(dir / "x.npz"); },
               Exit::kBadData,
               {"x.npz", "'x'", GetParam().word});
}

std::string header_with(const std::string& descr,
                        const std::string& shape,
                        const std::string& order = "False") {
  return "{'descr': '" + descr + "', 'fortran_order': " + order +
         ", 'shape': " + shape + ", }\n";
}

INSTANTIATE_TEST_SUITE_P(
    ,
    NpzRefuses,
    ::testing::Values(
        BadNpy{"Empty", "", "not a whole .npy"},
        BadNpy{"OtherMagic", std::string(200, 'x'), "not a whole .npy"},
        BadNpy{"LaterVersion", npy(kHeader, kData, 4), "version 4"},
        BadNpy{"HeaderBeyondTheEnd",
               std::string("\x93NUMPY\x01\x00\xff\xff{", 11),
               "not a whole .npy"},
        BadNpy{"NoHeader", npy("", kData), "header"},
        BadNpy{"MissingKey", npy("{'descr': '<i2'}", kData), "header"},
        BadNpy{"KeyTwice",
               npy("{'descr': '<i2', 'descr': '<i2', 'fortran_order': False, "
                   "'shape': (4,)}",
                   kData),
               "header"},
        BadNpy{"Records",
               npy("{'descr': [('a', '<i2')], 'fortran_order': False, "
                   "'shape': (4,)}",
                   kData),
               "header"},
        BadNpy{"BigEndian", npy(header_with(">i2", "(4,)"), kData), "'<i2'"},
        BadNpy{"Half", npy(header_with("<f2", "(4,)"), kData), "astype"},
        BadNpy{"Objects", npy(header_with("|O", "(4,)"), kData), "astype"},
        BadNpy{"NoDtype", npy(header_with("", "(4,)"), kData), "dtype"},
        BadNpy{"FortranOrder",
               npy(header_with("<i2", "(2, 2)", "True"), kData),
               "ascontiguousarray"},
        BadNpy{"TooShort", npy(header_with("<i2", "(5,)"), kData), "8 bytes"},
        BadNpy{"TooLong", npy(header_with("<i2", "(3,)"), kData), "8 bytes"},
        BadNpy{
            "NegativeShape", npy(header_with("<i2", "(-4,)"), kData), "header"},
        BadNpy{"ProductOverflows",
               npy(header_with("<i2", "(4294967296, 4294967296)"), kData),
               "8 bytes"},
        BadNpy{"NumberOverflows",
               npy(header_with("<i2", "(99999999999999999999,)"), kData),
               "header"}),
    [](const auto& p) { return std::string(p.param.name); });

TEST(Npz, RefusesWhatIsNoZip) {
  const TempDir dir;
  write(dir / "x.npz", std::vector<uint8_t>(1000, 'a'));
  expect_error([&] { Npz::read(dir / "x.npz"); },
               Exit::kBadData,
               {"x.npz", "copy or write it again"});
  expect_error([&] { Npz::read(dir / "none.npz"); },
               Exit::kBadData,
               {"none.npz", "No such file"});
  expect_error([&] { Npz::read(dir.path()); },
               Exit::kBadData,
               {"is a folder; give the name of a file in it"});
}

}  // namespace
}  // namespace fewstep::host
