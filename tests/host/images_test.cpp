// Source `images`: decoding, area filter, splits, sampling, refusals; on small
// files made here, and on Omniglot where it is at hand.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include "fewstep/host/images.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "support/expect_error.h"
#include "support/png_writer.h"
#include "support/temp_dir.h"

namespace fewstep::host {
namespace {

namespace fs = std::filesystem;
using testing::Bytes;
using testing::encode_png;
using testing::expect_error;
using testing::flat_png;
using testing::TempDir;
using testing::write_bytes;
using testing::write_zip;

// --- Decoding ---------------------------------------------------------------

Bytes decoded(const testing::PngImage& image) {
  return decode_png(encode_png(image), "x.png").pixels;
}

TEST(DecodePng, TakesEveryDepthOfGray) {
  EXPECT_EQ(decoded({.w = 4, .depth = 1, .rows = {0b10100000}}),
            (Bytes{255, 0, 255, 0}));
  EXPECT_EQ(decoded({.w = 4, .depth = 2, .rows = {0b00011011}}),
            (Bytes{0, 85, 170, 255}));
  EXPECT_EQ(decoded({.w = 2, .depth = 4, .rows = {0x1f}}), (Bytes{17, 255}));
  EXPECT_EQ(decoded({.w = 3, .rows = {0, 128, 255}}), (Bytes{0, 128, 255}));
  // v * 255 / 65535, rounded: 0x8080 is 128 exactly, 0x0081 rounds to 1.
  EXPECT_EQ(decoded({.w = 4,
                     .depth = 16,
                     .rows = {0, 0, 0x80, 0x80, 0xff, 0xff, 0x00, 0x81}}),
            (Bytes{0, 128, 255, 1}));
}

TEST(DecodePng, WeighsColours) {
  const Bytes rgb = {255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 255};
  const Bytes gray = {76, 150, 29, 255};  // 0.299, 0.587, 0.114 of 255.
  EXPECT_EQ(decoded({.w = 4, .color = PNG_COLOR_TYPE_RGB, .rows = rgb}), gray);
  EXPECT_EQ(
      decoded({.w = 4,
               .depth = 2,
               .color = PNG_COLOR_TYPE_PALETTE,
               .rows = {0b00011011},
               .palette =
                   {{255, 0, 0}, {0, 255, 0}, {0, 0, 255}, {255, 255, 255}}}),
      gray);
}

TEST(DecodePng, LaysAlphaOverWhite) {
  EXPECT_EQ(decoded({.w = 3,
                     .color = PNG_COLOR_TYPE_GRAY_ALPHA,
                     .rows = {0, 255, 0, 0, 100, 51}}),
            (Bytes{0, 255, 224}));  // 100 * 0.2 + 255 * 0.8
  EXPECT_EQ(decoded({.w = 2,
                     .color = PNG_COLOR_TYPE_RGB_ALPHA,
                     .rows = {255, 0, 0, 255, 255, 0, 0, 0}}),
            (Bytes{76, 255}));
  EXPECT_EQ(decoded({.w = 2,
                     .depth = 1,
                     .color = PNG_COLOR_TYPE_PALETTE,
                     .rows = {0b01000000},
                     .palette = {{10, 10, 10}, {20, 20, 20}},
                     .palette_alpha = {255, 0}}),
            (Bytes{10, 255}));
}

TEST(DecodePng, TakesInterlacedImages) {
  Bytes rows(9 * 5);
  for (size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<uint8_t>(i);
  EXPECT_EQ(decoded({.w = 9, .h = 5, .rows = rows, .interlaced = true}), rows);
}

TEST(DecodePng, RefusesAFileCutAnywhere) {
  const Bytes png = flat_png(7);
  for (size_t n = 0; n < png.size(); ++n) {
    expect_error([&] { decode_png(std::span(png).first(n), "dir/x.png"); },
                 Exit::kBadData,
                 {"dir/x.png", "PNG"});
  }
}

TEST(DecodePng, RefusesAFlippedBit) {
  const Bytes png = flat_png(7);
  for (size_t i = 0; i < png.size(); ++i) {
    Bytes bad = png;
    bad[i] ^= 0x10;
    expect_error([&] { decode_png(bad, "x.png"); }, Exit::kBadData, {"x.png"});
  }
}

TEST(DecodePng, RefusesGiantImages) {
  Bytes png = flat_png(7);
  // A width of 2^20 under a CRC that fits.
  png[17] = 0x10;
  const uLong crc = crc32_z(0, png.data() + 12, 17);
  for (size_t i = 0; i < 4; ++i)
    png[29 + i] = static_cast<uint8_t>(crc >> (24 - 8 * i));
  expect_error([&] { decode_png(png, "x.png"); }, Exit::kBadData, {"limit"});
}

// --- Area filter ------------------------------------------------------------

Bytes resized(const Bytes& gray, uint32_t h, uint32_t w, uint32_t size) {
  Bytes out(size_t{size} * size);
  resize_area(gray, h, w, size, out);
  return out;
}

TEST(ResizeArea, CopiesAtTheSameSize) {
  const Bytes gray = {1, 2, 3, 4, 5, 6, 7, 8, 9};
  EXPECT_EQ(resized(gray, 3, 3, 3), gray);
}

TEST(ResizeArea, AveragesBoxes) {
  // Two by two from three by three: each output covers 1.5 x 1.5 pixels.
  // (0 + 90/2 + 0 + 0) / 2.25 = 20; the others likewise by hand.
  const Bytes gray = {0, 90, 0, 0, 0, 0, 0, 0, 180};
  EXPECT_EQ(resized(gray, 3, 3, 2), (Bytes{20, 20, 0, 80}));
  // Half a level rounds up.
  EXPECT_EQ(resized({0, 1, 0, 1}, 2, 2, 1), (Bytes{1}));
  EXPECT_EQ(resized({0, 1, 0, 0}, 2, 2, 1), (Bytes{0}));
  // Not square, and enlarging: boxes smaller than a pixel.
  EXPECT_EQ(resized({10, 20, 30, 40}, 1, 4, 2), (Bytes{15, 35, 15, 35}));
  EXPECT_EQ(resized({10, 30}, 1, 2, 3),
            (Bytes{10, 20, 30, 10, 20, 30, 10, 20, 30}));
}

// Another way to the same integral: enlarge by repetition to the least common
// multiple, then average whole pixels in double.
TEST(ResizeArea, AgreesWithAveragingRepeatedPixels) {
  constexpr uint32_t kIn = 15, kOut = 4;
  Bytes gray(kIn * kIn);
  for (size_t i = 0; i < gray.size(); ++i)
    gray[i] = static_cast<uint8_t>(i * i * 37 % 251);
  const Bytes got = resized(gray, kIn, kIn, kOut);
  for (uint32_t i = 0; i < kOut; ++i) {
    for (uint32_t j = 0; j < kOut; ++j) {
      double sum = 0.0;
      for (uint32_t y = 0; y < kIn; ++y) {
        for (uint32_t x = 0; x < kIn; ++x)
          sum += gray[(i * kIn + y) / kOut * kIn + (j * kIn + x) / kOut];
      }
      EXPECT_NEAR(got[i * kOut + j], sum / (kIn * kIn), 0.5);
    }
  }
}

// --- The source -------------------------------------------------------------

// Class c ("a/0" ... ) has image i with all pixels 20 c + i.
class ImagesSource : public ::testing::Test {
 protected:
  static constexpr uint32_t kClasses = 8, kImages = 5;

  ImagesSource() {
    options_.paths = {dir_ / "set"};
    options_.size = 2;
    options_.split = {.n_train = 4, .n_validation = 2, .n_test = 2, .seed = 1};
    options_.ways = 2;
    options_.shots = 1;
    options_.queries = 2;
    options_.threads = 2;
  }

  static std::string name(uint32_t c, uint32_t i) {
    return (c < 4 ? "a/" : "b/") + std::to_string(c) + "/" + std::to_string(i) +
           ".png";
  }
  static uint8_t value(uint32_t c, uint32_t i) {
    return static_cast<uint8_t>(20 * c + i);
  }
  void make_folder() {
    for (uint32_t c = 0; c < kClasses; ++c) {
      for (uint32_t i = 0; i < kImages; ++i)
        write_bytes(dir_ / ("set/" + name(c, i)), flat_png(value(c, i)));
    }
  }

  const TempDir dir_;
  ImagesOptions options_;
};

TEST_F(ImagesSource, ReadsFoldersSortedByPath) {
  make_folder();
  write_bytes(dir_ / "set/a/0/.hidden.png", Bytes{1});
  write_bytes(dir_ / "set/__MACOSX/a/0/x.png", Bytes{1});
  write_bytes(dir_ / "set/a/0/notes.txt", Bytes{1});
  const Images source(options_);
  EXPECT_EQ(source.class_names(),
            (std::vector<std::string>{
                "a/0", "a/1", "a/2", "a/3", "b/4", "b/5", "b/6", "b/7"}));
  EXPECT_EQ(source.n_images(), kClasses * kImages);
  for (uint32_t c = 0; c < kClasses; ++c) {
    for (uint32_t i = 0; i < kImages; ++i)
      EXPECT_EQ(source.image(c, i)[3], value(c, i));
  }
  EXPECT_EQ(source.shape(), (EpisodeShape{2, 2, 4, 4, 2, true}));
  EXPECT_EQ(source.input_shape(), (InputShape{1, 2, 2}));
}

TEST_F(ImagesSource, IsTheSameFromZipsInAnyOrder) {
  make_folder();
  const Images from_folder(options_);
  std::vector<std::pair<std::string, Bytes>> a, b;
  for (uint32_t c = kClasses; c-- > 0;) {
    for (uint32_t i = kImages; i-- > 0;)
      (c < 4 ? a : b).emplace_back(name(c, i), flat_png(value(c, i)));
  }
  fs::create_directories(dir_ / "zips/deep");
  write_zip(dir_ / "zips/a.zip", a);
  write_zip(dir_ / "zips/b.zip", b);
  ImagesOptions as_paths = options_;
  as_paths.paths = {dir_ / "zips/b.zip", dir_ / "zips/a.zip"};
  ImagesOptions as_folder = options_;
  as_folder.paths = {dir_ / "zips"};
  for (const ImagesOptions& options : {as_paths, as_folder}) {
    const Images from_zips(options);
    EXPECT_EQ(from_zips.class_names(), from_folder.class_names());
    for (uint32_t task = 0; task < 20; ++task) {
      Episode x, y;
      from_folder.sample(Split::kTrain, 1, 0, task, &x);
      from_zips.sample(Split::kTrain, 1, 0, task, &y);
      EXPECT_EQ(x.support_x, y.support_x);
      EXPECT_EQ(x.query_x, y.query_x);
    }
  }
}

TEST_F(ImagesSource, NamesClassesOfANestedZipByItsFolder) {
  fs::create_directories(dir_ / "set/outer");
  std::vector<std::pair<std::string, Bytes>> files;
  for (uint32_t c = 0; c < kClasses; ++c) {
    for (uint32_t i = 0; i < kImages; ++i)
      files.emplace_back("./" + name(c, i), flat_png(value(c, i)));
  }
  write_zip(dir_ / "set/outer/x.zip", files);
  EXPECT_EQ(Images(options_).class_names()[0], "outer/a/0");
}

TEST_F(ImagesSource, DrawsDistinctClassesAndImagesInClassOrder) {
  make_folder();
  const Images source(options_);
  Episode e;
  std::set<uint32_t> seen;
  for (uint32_t task = 0; task < 200; ++task) {
    source.sample(Split::kTrain, 1, 0, task, &e);
    ASSERT_EQ(e.drawn.size(), 2U * (1 + 3));
    EXPECT_NE(e.drawn[0], e.drawn[1]);
    EXPECT_EQ(e.support_labels, (std::vector<uint16_t>{0, 1}));
    EXPECT_EQ(e.query_labels, (std::vector<uint16_t>{0, 0, 1, 1}));
    for (uint32_t way = 0; way < 2; ++way) {
      const uint32_t c = source.classes(Split::kTrain)[e.drawn[way]];
      const uint32_t* i = e.drawn.data() + 2 + 3 * way;
      EXPECT_EQ(std::set<uint32_t>(i, i + 3).size(), 3U);
      EXPECT_EQ(e.support_x[4 * way],
                static_cast<float>(value(c, i[0])) / 255.0F);
      EXPECT_EQ(e.query_x[8 * way],
                static_cast<float>(value(c, i[1])) / 255.0F);
      EXPECT_EQ(e.query_x[8 * way + 7],
                static_cast<float>(value(c, i[2])) / 255.0F);
      seen.insert(c * kImages + i[0]);
    }
  }
  EXPECT_EQ(seen.size(), 4U * kImages);  // Every training image is reached.
}

TEST_F(ImagesSource, DependsOnItsArgumentsOnly) {
  make_folder();
  options_.threads = 1;
  const Images one(options_);
  options_.threads = 7;
  const Images many(options_);
  Episode x, y;
  one.sample(Split::kTest, 5, 6, 7, &x);
  many.sample(Split::kTrain, 1, 1, 1, &y);
  many.sample(Split::kTest, 5, 6, 7, &y);
  EXPECT_EQ(x.drawn, y.drawn);
  EXPECT_EQ(x.support_x, y.support_x);
  EXPECT_EQ(x.query_x, y.query_x);
  const float* const memory = y.query_x.data();
  many.sample(Split::kTest, 5, 6, 8, &y);
  EXPECT_EQ(y.query_x.data(), memory);
}

TEST_F(ImagesSource, SplitsByCountAndSeedWithoutOverlap) {
  make_folder();
  std::set<std::vector<uint32_t>> trainings;
  for (uint64_t seed = 0; seed < 5; ++seed) {
    options_.split.seed = seed;
    const Images source(options_);
    std::vector<uint32_t> all;
    for (const Split s : {Split::kTrain, Split::kValidation, Split::kTest})
      all.insert(all.end(), source.classes(s).begin(), source.classes(s).end());
    EXPECT_EQ(std::set<uint32_t>(all.begin(), all.end()).size(), kClasses);
    trainings.emplace(all.begin(), all.begin() + 4);
  }
  EXPECT_GT(trainings.size(), 3U);
  options_.split = {.n_train = 3, .n_test = ClassSplit::kRest};
  EXPECT_EQ(Images(options_).classes(Split::kTest).size(), 5U);
  EXPECT_TRUE(Images(options_).classes(Split::kValidation).empty());
}

TEST_F(ImagesSource, SplitsByTheLongestPath) {
  make_folder();
  options_.split = {.train = {"a", "b/"}, .test = {"b/4", "b/5"}};
  const Images source(options_);
  const auto train = source.classes(Split::kTrain);
  const auto test = source.classes(Split::kTest);
  EXPECT_EQ(std::vector<uint32_t>(train.begin(), train.end()),
            (std::vector<uint32_t>{0, 1, 2, 3, 6, 7}));
  EXPECT_EQ(std::vector<uint32_t>(test.begin(), test.end()),
            (std::vector<uint32_t>{4, 5}));
  EXPECT_NO_THROW(source.check(Split::kTest));
  expect_error([&] { source.check(Split::kValidation); },
               Exit::kUsage,
               {"validation", "task.split.validation"});
  Episode e;
  expect_error([&] { source.sample(Split::kValidation, 1, 0, 0, &e); },
               Exit::kUsage,
               {"validation"});
}

TEST_F(ImagesSource, InvertsAfterFiltering) {
  make_folder();
  options_.invert = true;
  EXPECT_EQ(Images(options_).image(1, 2)[0], 255 - value(1, 2));
}

TEST_F(ImagesSource, RotatesCounterClockwiseAsClassesOfTheirOwn) {
  for (uint32_t c = 0; c < 2; ++c) {
    for (uint32_t i = 0; i < kImages; ++i) {
      const auto v = static_cast<uint8_t>(100 * c + 10 * i);
      write_bytes(dir_ / ("set/" + name(c, i)),
                  encode_png({.w = 2,
                              .h = 2,
                              .rows = {v,
                                       static_cast<uint8_t>(v + 1),
                                       static_cast<uint8_t>(v + 2),
                                       static_cast<uint8_t>(v + 3)}}));
    }
  }
  options_.rotations = true;
  options_.split = {.train = {"a/1"}, .test = {"a/0"}};
  options_.ways = 4;  // All rotations of the one character.
  const Images source(options_);
  // numpy.rot90(m, k) of [[0, 1], [2, 3]].
  const int expected[4][4] = {
      {0, 1, 2, 3}, {1, 3, 0, 2}, {3, 2, 1, 0}, {2, 0, 3, 1}};
  Episode e;
  for (uint32_t task = 0; task < 50; ++task) {
    source.sample(Split::kTrain, 1, 0, task, &e);
    std::vector<uint32_t> turns(e.drawn.begin(), e.drawn.begin() + 4);
    for (size_t way = 0; way < 4; ++way) {
      const uint32_t i = e.drawn[4 + 3 * way];
      for (size_t p = 0; p < 4; ++p)
        EXPECT_EQ(e.support_x[4 * way + p],
                  static_cast<float>(100 + 10 * static_cast<int>(i) +
                                     expected[turns[way]][p]) /
                      255.0F);
    }
    std::sort(turns.begin(), turns.end());
    EXPECT_EQ(turns, (std::vector<uint32_t>{0, 1, 2, 3}));
  }
}

// Each entry changes one thing about a source that works.
struct BadSource {
  const char* name;
  std::function<void(const fs::path&, ImagesOptions*)> spoil;
  Exit exit;
  const char* word;
  const char* other_word;
};
void PrintTo(const BadSource& b, std::ostream* os) { *os << b.name; }

class ImagesRefuses : public ImagesSource,
                      public ::testing::WithParamInterface<BadSource> {};

TEST_P(ImagesRefuses, NamingTheCauseAndTheRemedy) {
  make_folder();
  EXPECT_NO_THROW(Images{options_});
  GetParam().spoil(dir_.path(), &options_);
  expect_error([&] { Images source(options_); },
               GetParam().exit,
               {GetParam().word, GetParam().other_word});
}

INSTANTIATE_TEST_SUITE_P(
    ,
    ImagesRefuses,
    ::testing::Values(
        BadSource{"MissingPath",
                  [](const fs::path& d, ImagesOptions* o) {
                    o->paths.push_back(d / "none.zip");
                  },
                  Exit::kBadData,
                  "none.zip",
                  "task.path"},
        BadSource{"NoImages",
                  [](const fs::path& d, ImagesOptions* o) {
                    fs::create_directories(d / "empty");
                    o->paths = {d / "empty"};
                  },
                  Exit::kBadData,
                  "empty",
                  "no image found"},
        BadSource{"CorruptPng",
                  [](const fs::path& d, ImagesOptions*) {
                    write_bytes(d / "set/b/6/3.png", Bytes{1, 2, 3});
                  },
                  Exit::kBadData,
                  "set/b/6/3.png",
                  "not a readable PNG"},
        BadSource{"CorruptPngInAZip",
                  [](const fs::path& d, ImagesOptions* o) {
                    write_zip(d / "x.zip", {{"k/bad.png", Bytes{1, 2, 3}}});
                    o->paths.push_back(d / "x.zip");
                  },
                  Exit::kBadData,
                  "x.zip: k/bad.png",
                  "not a readable PNG"},
        BadSource{"CutZip",
                  [](const fs::path& d, ImagesOptions* o) {
                    write_zip(d / "x.zip", {{"k/x.png", flat_png(1)}});
                    fs::resize_file(d / "x.zip",
                                    fs::file_size(d / "x.zip") - 10);
                    o->paths.push_back(d / "x.zip");
                  },
                  Exit::kBadData,
                  "x.zip",
                  "copy or write it again"},
        BadSource{"NoClassFolder",
                  [](const fs::path& d, ImagesOptions*) {
                    write_bytes(d / "set/x.png", flat_png(1));
                  },
                  Exit::kBadData,
                  "x.png",
                  "class folder"},
        BadSource{"OneClassFromTwoPaths",
                  [](const fs::path& d, ImagesOptions* o) {
                    write_bytes(d / "other/a/1/9.png", flat_png(1));
                    o->paths.push_back(d / "other");
                  },
                  Exit::kBadData,
                  "class a/1",
                  "other"},
        BadSource{"WaysAboveClasses",
                  [](const fs::path&, ImagesOptions* o) { o->ways = 3; },
                  Exit::kUsage,
                  "task.ways is 3",
                  "has 2 classes"},
        BadSource{"TooFewImages",
                  [](const fs::path& d, ImagesOptions*) {
                    for (const char* i : {"0", "1", "2"})
                      fs::remove(d / "set/a/2" / (std::string(i) + ".png"));
                  },
                  Exit::kUsage,
                  "class a/2 has 2 images",
                  "task.shots + task.queries"},
        BadSource{"ZeroShots",
                  [](const fs::path&, ImagesOptions* o) { o->shots = 0; },
                  Exit::kUsage,
                  "task.shots is 0",
                  "1 to"},
        BadSource{
            "CountsAboveClasses",
            [](const fs::path&, ImagesOptions* o) { o->split.n_train = 5; },
            Exit::kUsage,
            "asks for 9 classes",
            "only 8"},
        BadSource{"TwoRests",
                  [](const fs::path&, ImagesOptions* o) {
                    o->split.n_train = ClassSplit::kRest;
                    o->split.n_test = ClassSplit::kRest;
                  },
                  Exit::kUsage,
                  "task.split",
                  "rest"},
        BadSource{"NoSplit",
                  [](const fs::path&, ImagesOptions* o) { o->split = {}; },
                  Exit::kUsage,
                  "task.split",
                  "give"},
        BadSource{"PathThatHoldsNone",
                  [](const fs::path&, ImagesOptions* o) {
                    o->split = {.train = {"a"}, .test = {"bb"}};
                  },
                  Exit::kUsage,
                  "task.split.test",
                  "'bb'"},
        BadSource{"PathInTwoSplits",
                  [](const fs::path&, ImagesOptions* o) {
                    o->split = {.train = {"a"}, .test = {"a/"}};
                  },
                  Exit::kUsage,
                  "task.split",
                  "twice"}),
    [](const auto& p) { return std::string(p.param.name); });

// --- Omniglot ---------------------------------------------------------------

TEST(Omniglot, LoadsWholeFromItsZips) {
  const char* shared = std::getenv("FEWSTEP_SHARED");
  const fs::path folder =
      (shared != nullptr ? fs::path(shared)
                         : fs::path(FEWSTEP_SOURCE_DIR) / "../shared") /
      "data/omniglot";
  if (!fs::exists(folder))
    GTEST_SKIP() << folder << " is not there; set FEWSTEP_SHARED to its parent";
  ImagesOptions options;
  options.paths = {folder / "images_background.zip",
                   folder / "images_evaluation.zip"};
  options.invert = true;
  options.rotations = true;
  options.split = {.n_train = 1100,
                   .n_validation = 100,
                   .n_test = ClassSplit::kRest,
                   .seed = 1};
  const Images source(options);
  EXPECT_EQ(source.n_images(), 32460U);
  EXPECT_EQ(source.n_classes(), 1623U);
  EXPECT_EQ(source.classes(Split::kTest).size(), 423U);
  EXPECT_EQ(source.class_names()[0],
            "images_background/Alphabet_of_the_Magi/character01");

  Episode e;
  source.sample(Split::kTest, 1, 0, 0, &e);
  ASSERT_EQ(e.support_x.size(), 5U * 784);
  // Ink is bright on black now, and covers a small part of each image.
  double sum = 0.0;
  for (const float v : e.query_x) sum += static_cast<double>(v);
  const double mean = sum / static_cast<double>(e.query_x.size());
  EXPECT_GT(mean, 0.02);
  EXPECT_LT(mean, 0.25);
}

}  // namespace
}  // namespace fewstep::host
