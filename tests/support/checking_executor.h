// An executor that proves, for the run at hand, that no order of items could
// have mattered.
//
// The kernels run at Traced (traced.h), whose every load and store reports its
// address. AccessLog remembers, for each value of the registered buffers, who
// touched it since the last barrier, and records as a conflict
//
// - a value that one item writes and another item reads or writes, with no
//   barrier between them. Items of different for_each calls are different
//   items: on a GPU nothing ties them to the same thread;
// - a read of a value of a fresh buffer that nothing has written;
// - a write by a kernel outside any item, where all threads would write.
//
// Reads outside items (by all threads) are an item of their own. With
// allow_host_writes, code between kernels that runs on the host alone, as in
// MetaGradient, may write: it is ordered before what follows, and must find a
// barrier before it.
//
// Where threads are emulated (thread_team.h), an item is all that a thread does
// between two barriers, and buffers may belong to one block of several: then
//
// - an access by a thread of another block is a conflict.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#ifndef FEWSTEP_TESTS_SUPPORT_CHECKING_EXECUTOR_H_
#define FEWSTEP_TESTS_SUPPORT_CHECKING_EXECUTOR_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace fewstep::testing {

class AccessLog {
 public:
  /// Where Traced reports to; one log at a time is active.
  AccessLog() : previous_(active_) { active_ = this; }
  ~AccessLog() { active_ = previous_; }
  AccessLog(const AccessLog&) = delete;
  AccessLog& operator=(const AccessLog&) = delete;
  static AccessLog* active() { return active_; }

  /// Watches [data, data + bytes), values of 4 bytes. `fresh`: nothing was
  /// written yet. `block`: whose shared memory it is; else anybody's.
  void watch(const std::string& name,
             const void* data,
             size_t bytes,
             bool fresh,
             uint32_t block = kAnyBlock) {
    Buffer b;
    b.name = name;
    b.block = block;
    b.begin = reinterpret_cast<uintptr_t>(data);
    b.values.resize(bytes / kUnit);
    for (Value& v : b.values) v.written = !fresh;
    buffers_.push_back(b);
  }

  void begin_item() { item_ = ++n_items_; }
  void end_item() { item_ = kOutside; }
  /// What follows is done by this thread of this block, until end_thread().
  void begin_thread(uint32_t thread, uint32_t block) {
    item_ = thread + 1;
    block_ = block;
  }
  void end_thread() {
    item_ = kOutside;
    block_ = kAnyBlock;
  }
  void barrier() { ++region_; }
  void allow_host_writes() { host_writes_ = true; }

  void on_read(const void* at) {
    Buffer* b;
    Value* v = find(at, &b);
    if (v == nullptr) return;
    check_block(*b, *v);
    if (!v->written) conflict(*b, *v, "read before any write");
    if (v->write_region == region_ && v->writer != item_) {
      conflict(*b, *v, "written and read without a barrier between");
    }
    if (v->read_region != region_) {
      v->read_region = region_;
      v->reader = item_;
      v->many_readers = false;
    } else if (v->reader != item_) {
      v->many_readers = true;
    }
  }

  void on_write(const void* at) {
    Buffer* b;
    Value* v = find(at, &b);
    if (v == nullptr) return;
    check_block(*b, *v);
    if (v->write_region == region_ && v->writer != item_) {
      conflict(*b, *v, "written by two items");
    }
    if (v->read_region == region_ && (v->many_readers || v->reader != item_)) {
      conflict(*b, *v, "read and written without a barrier between");
    }
    v->written = true;
    if (item_ == kOutside && host_writes_) {
      v->write_region = 0;
      return;
    }
    if (item_ == kOutside) conflict(*b, *v, "written outside any item");
    v->write_region = region_;
    v->writer = item_;
  }

  /// Conflicts found, and the first few in words.
  uint64_t n_conflicts() const { return n_conflicts_; }
  const std::vector<std::string>& messages() const { return messages_; }
  std::string report() const {
    std::string all = std::to_string(n_conflicts_) + " conflicts";
    for (const std::string& m : messages_) all += "\n  " + m;
    return all;
  }

 private:
  static constexpr size_t kUnit = 4;
  static constexpr uint64_t kOutside = 0;
  static constexpr uint32_t kAnyBlock = ~0U;
  struct Value {
    uint64_t write_region = 0, writer = 0;
    uint64_t read_region = 0, reader = 0;
    bool many_readers = false;
    bool written = false;
  };
  struct Buffer {
    std::string name;
    uint32_t block;
    uintptr_t begin;
    std::vector<Value> values;
  };

  Value* find(const void* at, Buffer** buffer) {
    const uintptr_t a = reinterpret_cast<uintptr_t>(at);
    for (Buffer& b : buffers_) {
      if (a >= b.begin && a < b.begin + b.values.size() * kUnit) {
        *buffer = &b;
        return &b.values[(a - b.begin) / kUnit];
      }
    }
    return nullptr;
  }
  void check_block(const Buffer& b, const Value& v) {
    if (b.block != kAnyBlock && b.block != block_) {
      conflict(b, v, "in the shared memory of another block");
    }
  }
  void conflict(const Buffer& b, const Value& v, const char* what) {
    ++n_conflicts_;
    if (messages_.size() < 5) {
      messages_.push_back(b.name + "[" + std::to_string(&v - b.values.data()) +
                          "]: " + what);
    }
  }

  static inline AccessLog* active_ = nullptr;
  AccessLog* previous_;
  std::vector<Buffer> buffers_;
  uint64_t region_ = 1;  // Grows with each barrier; 0: never.
  uint64_t item_ = kOutside;
  uint64_t n_items_ = 0;
  uint32_t block_ = kAnyBlock;  // Of the thread.
  bool host_writes_ = false;
  uint64_t n_conflicts_ = 0;
  std::vector<std::string> messages_;
};

class CheckingExecutor {
 public:
  /// With `barriers` false it ignores them: what a kernel without its barriers
  /// would look like.
  explicit CheckingExecutor(AccessLog* log, bool barriers = true)
      : log_(log), barriers_(barriers) {}

  template <class Body>
  void for_each(uint32_t n, const Body& body) const {
    for (uint32_t i = 0; i < n; ++i) {
      log_->begin_item();
      body(i);
      log_->end_item();
    }
  }
  template <class Body>
  void for_each(uint32_t n_i, uint32_t n_j, const Body& body) const {
    for (uint32_t i = 0; i < n_i; ++i) {
      for (uint32_t j = 0; j < n_j; ++j) {
        log_->begin_item();
        body(i, j);
        log_->end_item();
      }
    }
  }
  void barrier() const {
    if (barriers_) log_->barrier();
  }

 private:
  AccessLog* log_;
  bool barriers_;
};

}  // namespace fewstep::testing

#endif  // FEWSTEP_TESTS_SUPPORT_CHECKING_EXECUTOR_H_
