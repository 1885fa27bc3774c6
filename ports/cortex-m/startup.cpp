// From reset to main() on a Cortex-M with an FPU: vector table, FPU, memory,
// stack painting, SysTick; and fault handlers that say where and exit.
//
// SPDX-FileCopyrightText: The fewstep authors
// SPDX-License-Identifier: Apache-2.0
#include <stdint.h>

#include "semihosting.h"
#include "startup.h"

// C++ forbids a program to call its own main().
int start_main() __asm__("main");

extern "C" {

// From mps2.ld. Only their addresses mean something.
extern uint32_t link_data_load[], link_data_start[], link_data_end[];
extern uint32_t link_bss_start[], link_bss_end[];
extern uint32_t link_stack_limit[], link_stack_top[];

void reset_handler();
void fault_handler();
void fault_report(const uint32_t* frame, uint32_t exception);
void systick_handler();

}  // extern "C"

namespace {

constexpr uint32_t kPaint = 0xdeadbea7U;
constexpr int kFaultStatus = 1;

volatile uint32_t& reg(uintptr_t address) {
  return *reinterpret_cast<volatile uint32_t*>(address);
}

// System control space, Armv7-M Architecture Reference Manual, B3.2.
constexpr uintptr_t kSystickControl = 0xe000e010;
constexpr uintptr_t kSystickReload = 0xe000e014;
constexpr uintptr_t kSystickValue = 0xe000e018;
constexpr uintptr_t kInterruptControl = 0xe000ed04;
constexpr uintptr_t kConfigurableFault = 0xe000ed28;
constexpr uintptr_t kHardFault = 0xe000ed2c;
constexpr uintptr_t kBusFaultAddress = 0xe000ed38;
constexpr uintptr_t kMpuControl = 0xe000ed94;
constexpr uintptr_t kMpuRegion = 0xe000ed98;
constexpr uintptr_t kMpuBase = 0xe000ed9c;
constexpr uintptr_t kMpuAttributes = 0xe000eda0;
constexpr uintptr_t kCoprocessorAccess = 0xe000ed88;

constexpr uint32_t kSystickEnable = 1U << 0 | 1U << 1 | 1U << 2;  // Core clock.
constexpr uint32_t kSystickPeriod = 1U << 24;
constexpr uint32_t kSystickPending = 1U << 26;

volatile uint32_t systick_wraps;

/// Prints "name=0x01234567 " without formatting code that could fault again.
void print_hex(const char* name, uint32_t value) {
  char text[13];
  text[0] = '=';
  text[1] = '0';
  text[2] = 'x';
  for (uint32_t i = 0; i < 8; ++i) {
    text[3 + i] = "0123456789abcdef"[value >> (28 - 4 * i) & 15U];
  }
  text[11] = ' ';
  text[12] = '\0';
  semihosting::write(name);
  semihosting::write(text);
}

/// Makes a push below the stack fault. QEMU's boards answer reads and writes
/// just below their RAM.
void guard_stack() {
#if __ARM_ARCH >= 8
  __asm__ volatile("msr msplim, %0" ::"r"(link_stack_limit));
#else
  // No access to the 256 MB that end where RAM, and in it the stack, begins.
  reg(kMpuRegion) = 0;
  reg(kMpuBase) = 0x10000000;
  reg(kMpuAttributes) = 1U << 28 | 27U << 1 | 1U;
  reg(kMpuControl) = 1U << 2 | 1U;  // Default map elsewhere.
  __asm__ volatile("dsb\n\tisb" ::: "memory");
#endif
}

}  // namespace

using Handler = void (*)();

struct Vectors {
  uint32_t* stack;
  Handler handlers[15];
};

// The first sixteen entries; the examples enable no external interrupt.
extern "C" __attribute__((section(".vectors"), used))
const Vectors vectors = {link_stack_top,
                         {reset_handler,
                          fault_handler,  // NMI
                          fault_handler,  // HardFault
                          fault_handler,  // MemManage
                          fault_handler,  // BusFault
                          fault_handler,  // UsageFault
                          fault_handler,
                          fault_handler,
                          fault_handler,
                          fault_handler,
                          fault_handler,  // SVCall
                          fault_handler,  // DebugMonitor
                          fault_handler,
                          fault_handler,  // PendSV
                          systick_handler}};

void reset_handler() {
  // CP10 and CP11 on, before the first instruction that touches the FPU.
  reg(kCoprocessorAccess) = reg(kCoprocessorAccess) | 0xfU << 20;
  __asm__ volatile("dsb\n\tisb" ::: "memory");

  // Everything below this frame. Volatile, so that it stays a loop: a call to
  // memset would have its own frame painted over.
  uint32_t sp;
  __asm__ volatile("mov %0, sp" : "=r"(sp));
  for (uintptr_t p = reinterpret_cast<uintptr_t>(link_stack_limit); p < sp - 16;
       p += 4) {
    reg(p) = kPaint;
  }

  const uint32_t* from = link_data_load;
  for (uint32_t* to = link_data_start; to != link_data_end;) *to++ = *from++;
  for (uint32_t* to = link_bss_start; to != link_bss_end;) *to++ = 0;
  guard_stack();
  // No static constructors: mps2.ld refuses to link them.

  reg(kSystickReload) = kSystickPeriod - 1;
  reg(kSystickValue) = 0;
  reg(kSystickControl) = kSystickEnable;

  semihosting::exit(start_main());
}

void systick_handler() { systick_wraps = systick_wraps + 1; }

__attribute__((naked)) void fault_handler() {
  // The main stack holds the exception frame: r0-r3, r12, lr, pc, xpsr. When
  // less than 256 bytes are left of it, the report starts at the top again.
  __asm__ volatile(
      "mov r0, sp\n\t"
      "mrs r1, ipsr\n\t"
      "ldr r2, =link_stack_limit + 256\n\t"
      "ldr r3, =link_stack_top\n\t"
      "cmp r0, r2\n\t"
      "it lo\n\t"
      "movlo sp, r3\n\t"
      "b fault_report\n\t");
}

void fault_report(const uint32_t* frame, uint32_t exception) {
  semihosting::write("fault: ");
  print_hex("exception", exception);
  print_hex("cfsr", reg(kConfigurableFault));
  print_hex("hfsr", reg(kHardFault));
  print_hex("bfar", reg(kBusFaultAddress));
  // An overflown stack leaves no frame to read.
  if (frame >= link_stack_limit && frame + 8 <= link_stack_top) {
    print_hex("pc", frame[6]);
    print_hex("lr", frame[5]);
  } else {
    semihosting::write("stack overflow ");
  }
  semihosting::write("\n");
  semihosting::exit(kFaultStatus);
}

uint64_t systick_ticks() {
  // SysTick counts down and wraps into an interrupt. Read again until no wrap
  // came in between.
  for (;;) {
    const uint32_t wraps = systick_wraps;
    const uint32_t value = reg(kSystickValue);
    const uint32_t pending = reg(kInterruptControl) & kSystickPending;
    if (pending == 0 && wraps == systick_wraps) {
      // 0 belongs to the period it ends: 0, P-1, ..., 1, wrap and 0, ...
      return uint64_t{wraps} * kSystickPeriod +
             (kSystickPeriod - value) % kSystickPeriod;
    }
  }
}

uint32_t stack_high_water() {
  const uint32_t* p = link_stack_limit;
  while (p < link_stack_top && *p == kPaint) ++p;
  return static_cast<uint32_t>(link_stack_top - p) * 4;
}

uint32_t stack_size() {
  return static_cast<uint32_t>(link_stack_top - link_stack_limit) * 4;
}
