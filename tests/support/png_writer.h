// Makes PNG and zip files for tests.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_TESTS_SUPPORT_PNG_WRITER_H_
#define FEWSTEP_TESTS_SUPPORT_PNG_WRITER_H_

#include <archive.h>
#include <archive_entry.h>
#include <png.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace fewstep::testing {

using Bytes = std::vector<uint8_t>;

/// What encode_png() writes: `rows` hold the samples as PNG packs them (16-bit
/// ones big-endian, smaller ones from the high bits), row after row.
struct PngImage {
  uint32_t w = 1, h = 1;
  int depth = 8;
  int color = PNG_COLOR_TYPE_GRAY;
  Bytes rows;
  std::vector<png_color> palette = {};
  Bytes palette_alpha = {};
  bool interlaced = false;
};

inline Bytes encode_png(PngImage image) {
  Bytes out;
  png_structp png =
      png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, nullptr, nullptr);
  png_infop info = png_create_info_struct(png);
  png_set_write_fn(
      png,
      &out,
      [](png_structp p, png_bytep data, size_t n) {
        auto* to = static_cast<Bytes*>(png_get_io_ptr(p));
        to->insert(to->end(), data, data + n);
      },
      nullptr);
  png_set_IHDR(png,
               info,
               image.w,
               image.h,
               image.depth,
               image.color,
               image.interlaced ? PNG_INTERLACE_ADAM7 : PNG_INTERLACE_NONE,
               PNG_COMPRESSION_TYPE_DEFAULT,
               PNG_FILTER_TYPE_DEFAULT);
  if (!image.palette.empty())
    png_set_PLTE(png,
                 info,
                 image.palette.data(),
                 static_cast<int>(image.palette.size()));
  if (!image.palette_alpha.empty())
    png_set_tRNS(png,
                 info,
                 image.palette_alpha.data(),
                 static_cast<int>(image.palette_alpha.size()),
                 nullptr);
  png_write_info(png, info);
  std::vector<png_bytep> rows(image.h);
  for (uint32_t y = 0; y < image.h; ++y)
    rows[y] = image.rows.data() + y * (image.rows.size() / image.h);
  png_write_image(png, rows.data());
  png_write_end(png, nullptr);
  png_destroy_write_struct(&png, &info);
  return out;
}

/// A gray image whose pixels are all `value`.
inline Bytes flat_png(uint8_t value, uint32_t size = 4) {
  return encode_png(
      {.w = size, .h = size, .rows = Bytes(size_t{size} * size, value)});
}

inline void write_bytes(const std::filesystem::path& path,
                        std::span<const uint8_t> bytes) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
  if (!file.good()) throw std::runtime_error("cannot write " + path.string());
}

/// A deflated zip of (name, content), in this order.
inline void write_zip(const std::filesystem::path& path,
                      const std::vector<std::pair<std::string, Bytes>>& files) {
  archive* a = archive_write_new();
  archive_write_set_format_zip(a);
  if (archive_write_open_filename(a, path.c_str()) != ARCHIVE_OK)
    throw std::runtime_error(archive_error_string(a));
  for (const auto& [name, content] : files) {
    archive_entry* entry = archive_entry_new();
    archive_entry_set_pathname(entry, name.c_str());
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_perm(entry, 0644);
    archive_entry_set_size(entry, static_cast<la_int64_t>(content.size()));
    archive_write_header(a, entry);
    archive_write_data(a, content.data(), content.size());
    archive_entry_free(entry);
  }
  archive_write_close(a);
  archive_write_free(a);
}

}  // namespace fewstep::testing

#endif  // FEWSTEP_TESTS_SUPPORT_PNG_WRITER_H_
