// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <png.h>

#include <algorithm>
#include <csetjmp>
#include <cstdio>
#include <cstring>
#include <new>
#include <utility>

#include "fewstep/host/error.h"
#include "fewstep/host/images.h"

namespace fewstep::host {

namespace {

constexpr png_uint_32 kMaxSide = 8192;

// libpng reports errors by longjmp(): the functions that call setjmp() below
// own nothing that has a destructor.
struct Reader {
  std::span<const uint8_t> rest;
  png_structp png = nullptr;
  png_infop info = nullptr;
  char message[128] = "";
  char warning[128] = "";  // The last one; often the reason for the error.

  Reader() = default;
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;
  ~Reader() { png_destroy_read_struct(&png, &info, nullptr); }
};

extern "C" {

[[noreturn]] void fewstep_png_error(png_structp png, png_const_charp message) {
  auto* r = static_cast<Reader*>(png_get_error_ptr(png));
  std::snprintf(r->message, sizeof r->message, "%s", message);
  png_longjmp(png, 1);
}

void fewstep_png_warning(png_structp png, png_const_charp message) {
  auto* r = static_cast<Reader*>(png_get_error_ptr(png));
  std::snprintf(r->warning, sizeof r->warning, "%s", message);
}

void fewstep_png_read(png_structp png, png_bytep out, size_t n) {
  auto* r = static_cast<Reader*>(png_get_io_ptr(png));
  if (n > r->rest.size()) png_error(png, "the file ends early");
  std::memcpy(out, r->rest.data(), n);
  r->rest = r->rest.subspan(n);
}

}  // extern "C"

// Up to the first row; asks for 8 bits a sample, no palette.
bool read_header(Reader* r) {
  if (setjmp(png_jmpbuf(r->png)) != 0) return false;
  png_set_read_fn(r->png, r, fewstep_png_read);
  png_set_user_limits(r->png, kMaxSide, kMaxSide);
  png_read_info(r->png, r->info);
  png_set_expand(r->png);
  png_set_scale_16(r->png);
  png_set_interlace_handling(r->png);
  png_read_update_info(r->png, r->info);
  return true;
}

bool read_rows(Reader* r, png_bytepp rows) {
  if (setjmp(png_jmpbuf(r->png)) != 0) return false;
  png_read_image(r->png, rows);
  png_read_end(r->png, nullptr);
  return true;
}

// `n` channels of one pixel, gray [alpha] or red green blue [alpha], as gray
// over white. Rounded half up.
uint8_t to_gray(const uint8_t* p, size_t n) {
  const uint32_t gray =
      n >= 3 ? (299U * p[0] + 587U * p[1] + 114U * p[2] + 500) / 1000 : p[0];
  if (n == 1 || n == 3) return static_cast<uint8_t>(gray);
  const uint32_t alpha = p[n - 1];
  return static_cast<uint8_t>((gray * alpha + 255 * (255 - alpha) + 127) / 255);
}

}  // namespace

GrayImage decode_png(std::span<const uint8_t> png, const std::string& name) {
  Reader r;
  r.rest = png;
  const auto fail = [&] {
    throw Error(
        Exit::kBadData,
        fmt::format("{}: not a readable PNG ({}{}{}); replace or remove "
                    "it",
                    name,
                    r.warning,
                    r.warning[0] == '\0' ? "" : "; ",
                    r.message));
  };
  r.png = png_create_read_struct(
      PNG_LIBPNG_VER_STRING, &r, fewstep_png_error, fewstep_png_warning);
  if (r.png != nullptr) r.info = png_create_info_struct(r.png);
  if (r.info == nullptr) throw std::bad_alloc();
  if (!read_header(&r)) fail();

  GrayImage image;
  image.h = png_get_image_height(r.png, r.info);
  image.w = png_get_image_width(r.png, r.info);
  const size_t n_channels = png_get_channels(r.png, r.info);
  const size_t row_bytes = png_get_rowbytes(r.png, r.info);
  std::vector<uint8_t> samples(image.h * row_bytes);
  std::vector<png_bytep> rows(image.h);
  for (uint32_t y = 0; y < image.h; ++y)
    rows[y] = samples.data() + y * row_bytes;
  if (!read_rows(&r, rows.data())) fail();
  if (n_channels == 1) {
    image.pixels = std::move(samples);
    return image;
  }
  image.pixels.resize(size_t{image.h} * image.w);
  for (size_t i = 0; i < image.pixels.size(); ++i)
    image.pixels[i] = to_gray(samples.data() + i * n_channels, n_channels);
  return image;
}

void resize_area(std::span<const uint8_t> gray,
                 uint32_t h,
                 uint32_t w,
                 uint32_t size,
                 std::span<uint8_t> out) {
  // In units of 1/size of an input pixel, input pixel x covers [x size, (x+1)
  // size) and output pixel j covers [j w, (j+1) w): overlaps are integers, and
  // those of an output pixel sum to w.
  const auto overlap = [size](uint64_t in, uint64_t lo, uint64_t hi) {
    return std::min(hi, (in + 1) * size) - std::max(lo, in * size);
  };
  const uint64_t area = uint64_t{h} * w;
  for (uint64_t i = 0; i < size; ++i) {
    for (uint64_t j = 0; j < size; ++j) {
      uint64_t sum = 0;  // At most 255 h w.
      for (uint64_t y = i * h / size; y * size < (i + 1) * h; ++y) {
        uint64_t row = 0;
        for (uint64_t x = j * w / size; x * size < (j + 1) * w; ++x)
          row += overlap(x, j * w, (j + 1) * w) * gray[y * w + x];
        sum += overlap(y, i * h, (i + 1) * h) * row;
      }
      out[i * size + j] = static_cast<uint8_t>((2 * sum + area) / (2 * area));
    }
  }
}

}  // namespace fewstep::host
