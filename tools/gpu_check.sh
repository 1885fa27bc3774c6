#!/usr/bin/env bash
# Everything that needs a GPU, in one run on a machine that has one: builds the
# GPU code for it, runs the tests labelled gpu, compute-sanitizer on a small
# case, compiles for the other GPUs there are, and times meta-steps beside
# PyTorch and JAX on the same GPU. Needs nvcc, CMake, ninja, a C++20 compiler,
# and Eigen and GoogleTest as folders; no network, no packages. Each part has a
# limit of time; all together take at most 8 minutes.
#
#   tools/gpu_check.sh [--eigen DIR] [--googletest DIR] [--fmt DIR]
#                      [--archs "80 87 90 120"] [--build DIR] [--out FILE.json]
#                      [--seconds N]
#
#   --eigen       folder with Eigen/Core           (/usr/include/eigen3)
#   --googletest  GoogleTest's sources, or where it is installed
#                                                  (/usr/src/googletest)
#   --fmt         folder with fmt/format.h; without it, messages of failures are
#                 written without their number formats
#   --archs       compute capabilities to compile for
#   --build       default build/gpu_check; kept
#   --out         default DIR/gpu_check.json
#   --seconds     of everything (480); parts not reached fail
#
# Exit status: 0 all passed; 1 something failed; 2 wrong use; 5 nothing failed,
# but parts were skipped because something is missing (a GPU, nvcc, ...); the
# table says what.
#
# SPDX-FileCopyrightText: The fewstep authors
# SPDX-License-Identifier: Apache-2.0
set -uo pipefail
cd "$(dirname "$0")/.."
root=$PWD

wrong() { echo "gpu_check.sh: $*" >&2; exit 2; }
eigen=/usr/include/eigen3 googletest=/usr/src/googletest fmt='' out=''
build=build/gpu_check archs="80 87 90 120" seconds=480
while [[ $# -gt 0 ]]; do
  [[ $# -ge 2 ]] || wrong "$1 needs a value; see the head of tools/gpu_check.sh"
  case $1 in
    --eigen) eigen=$2 ;;
    --googletest) googletest=$2 ;;
    --fmt) fmt=$2 ;;
    --archs) archs=$2 ;;
    --build) build=$2 ;;
    --out) out=$2 ;;
    --seconds) seconds=$2 ;;
    *) wrong "unknown option $1; see the head of tools/gpu_check.sh" ;;
  esac
  shift 2
done
[[ $seconds =~ ^[1-9][0-9]*$ ]] || wrong "--seconds $seconds: not a number"
[[ $archs =~ ^[0-9\ ]+$ ]] || wrong "--archs $archs: numbers, as in \"87 90\""
mkdir -p "$build"
build=$(cd "$build" && pwd)
out=${out:-$build/gpu_check.json}
logs=$build/logs
mkdir -p "$logs"
rm -f "$logs"/*

stop=$((SECONDS + seconds))
# limit MOST: seconds that a part may take, at most MOST of 480.
limit() {
  local left=$((stop - SECONDS)) most=$(($1 * seconds / 480))
  [[ $left -gt 0 ]] || left=1
  echo $((left < most ? left : most))
}

json_string() {
  printf '"%s"' "$(tr -d '\000-\010\013-\037' <<<"$1" |
    sed 's/\\/\\\\/g; s/"/\\"/g; s/\t/ /g' | head -c 1000 | tr '\n' ' ' |
    sed 's/ *$//')"
}

names=() verdicts=() details=() times=()
passed=0 failed=0 skipped=0
# part NAME VERDICT DETAIL SECONDS; VERDICT: passed, failed or skipped
part() {
  names+=("$1") verdicts+=("$2") details+=("$3") times+=("$4")
  case $2 in
    passed) passed=$((passed + 1)) ;;
    failed) failed=$((failed + 1)) ;;
    skipped) skipped=$((skipped + 1)) ;;
  esac
  printf '%-8s %-34s %4d s  %s\n' "$2" "$1" "$4" "$3"
}
# Why a command failed, given its status and log.
reason() {
  if [[ $1 -eq 124 || $1 -eq 137 ]]; then
    echo "out of time"
  else
    echo "status $1: $({ grep -m 1 -E 'error|Error|FAILED|failed' "$2" ||
      tail -n 1 "$2"; } | cut -c 1-160)"
  fi
}

finish() {
  local i gpu_json=null
  [[ -z ${gpu:-} ]] || gpu_json=$(json_string "$gpu")
  {
    echo "{"
    echo " \"commit\": $(json_string "$(git rev-parse --short HEAD 2>/dev/null ||
      echo unknown)"),"
    echo " \"gpu\": $gpu_json,"
    echo " \"driver\": $(json_string "${driver:-}"),"
    echo " \"nvcc\": $(json_string "${nvcc_version:-}"),"
    echo " \"passed\": $passed, \"failed\": $failed, \"skipped\": $skipped,"
    echo " \"parts\": ["
    for i in "${!names[@]}"; do
      printf '  {"name": %s, "verdict": "%s", "seconds": %d, "detail": %s}%s\n' \
        "$(json_string "${names[$i]}")" "${verdicts[$i]}" "${times[$i]}" \
        "$(json_string "${details[$i]}")" \
        "$([[ $i -eq $((${#names[@]} - 1)) ]] || echo ,)"
    done
    echo " ],"
    echo " \"kernels\": ["
    cat "$logs/kernels.json" 2>/dev/null
    echo " ],"
    echo " \"benchmarks\": $(cat "$logs/bench.json" 2>/dev/null || echo null)"
    echo "}"
  } >"$out"
  echo
  echo "written: $out"
  echo "$passed passed, $failed failed, $skipped skipped in $SECONDS s"
  [[ $failed -eq 0 ]] || exit 1
  [[ $skipped -eq 0 ]] || exit 5
  exit 0
}

# What is here.
nvcc=${CUDACXX:-$(command -v nvcc || ls /usr/local/cuda/bin/nvcc 2>/dev/null)}
tools_missing=()
[[ -n $nvcc ]] || tools_missing+=("nvcc")
for tool in cmake ninja; do
  command -v $tool >/dev/null || tools_missing+=("$tool")
done
[[ -e $eigen/Eigen/Core ]] || tools_missing+=("Eigen (--eigen: no $eigen/Eigen/Core)")
[[ -d $googletest ]] || tools_missing+=("GoogleTest (--googletest: no $googletest)")
if [[ ${#tools_missing[@]} -gt 0 ]]; then
  part "tools" skipped "missing: $(printf '%s; ' "${tools_missing[@]}")" 0
  finish
fi
nvcc_version=$("$nvcc" --version | sed -n 's/.*release \([0-9.]*\).*/\1/p')
gpu='' driver='' no_gpu="no nvidia-smi"
arch=90
if command -v nvidia-smi >/dev/null; then
  if line=$(timeout 20 nvidia-smi --format=csv,noheader \
    --query-gpu=name,compute_cap,driver_version 2>&1 | head -n 1) &&
    [[ $line == *,*,* ]]; then
    IFS=, read -r gpu arch driver <<<"$line"
    arch=$(tr -d ' .' <<<"$arch") driver=${driver# }
  else
    no_gpu="nvidia-smi: $(head -c 100 <<<"$line")"
  fi
fi
echo "GPU: ${gpu:-none ($no_gpu)}; nvcc $nvcc_version; building for sm_$arch"
[[ -n $fmt ]] || { [[ ! -e /usr/include/fmt/format.h ]] || fmt=/usr/include; }
echo "fmt: ${fmt:-not here: a stand-in that only writes messages}"
echo

# build: the GPU at hand.
start=$SECONDS
options=(-DCMAKE_BUILD_TYPE=Release "-DCMAKE_CUDA_COMPILER=$nvcc"
         "-DCMAKE_CUDA_ARCHITECTURES=$arch" "-DFEWSTEP_EIGEN=$eigen"
         "-DFEWSTEP_GTEST=$googletest")
# A folder of headers by itself: /usr/include as one would hide others.
if [[ -n $fmt ]]; then
  mkdir -p "$build/fmt_headers"
  ln -sfn "$fmt/fmt" "$build/fmt_headers/fmt"
  options+=("-DFEWSTEP_FMT=$build/fmt_headers")
fi
if command -v ccache >/dev/null; then
  options+=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
fi
built=yes
timeout "$(limit 60)" cmake -S tools/gpu_check -B "$build/tree" -G Ninja \
  "${options[@]}" >"$logs/build.log" 2>&1 &&
  timeout "$(limit 270)" cmake --build "$build/tree" >>"$logs/build.log" 2>&1
status=$?
if [[ $status -eq 0 ]]; then
  part "build for sm_$arch" passed "" $((SECONDS - start))
else
  built=no
  part "build for sm_$arch" failed "$(reason $status "$logs/build.log")" \
    $((SECONDS - start))
fi

# The tests labelled gpu.
start=$SECONDS
if [[ $built == no ]]; then
  part "tests labelled gpu" skipped "not built" 0
else
  timeout "$(limit 120)" ctest --test-dir "$build/tree" -L '^gpu$' \
    --no-tests=error --output-on-failure --timeout 100 \
    --output-junit "$logs/tests.xml" >"$logs/tests.log" 2>&1
  status=$?
  line=$(tr '\n\t' '  ' <"$logs/tests.xml" 2>/dev/null |
    grep -o '<testsuite [^>]*>')
  count() { sed "s/.* $1=\"\([0-9]*\)\".*/\1/" <<<"$line"; }
  if [[ $status -ne 0 ]]; then
    part "tests labelled gpu" failed "$(reason $status "$logs/tests.log")" \
      $((SECONDS - start))
  elif [[ -z $gpu ]]; then
    # What a machine without a GPU must do was tested: refuse.
    part "tests labelled gpu" skipped "no GPU ($no_gpu): $(count skipped) of \
$(count tests) skipped, refusals passed" $((SECONDS - start))
  elif [[ $(count skipped) -gt 1 ]]; then
    part "tests labelled gpu" failed \
      "$(count skipped) of $(count tests) skipped although there is a GPU" \
      $((SECONDS - start))
  else
    part "tests labelled gpu" passed "$(count tests) tests" $((SECONDS - start))
  fi
fi

# compute-sanitizer, on little: a session's calls, and meta-gradients.
sanitizer=$(command -v compute-sanitizer ||
  ls "$(dirname "$nvcc")/compute-sanitizer" 2>/dev/null)
# sanitize TOOL COMMAND...: adds to the tool's log
sanitize() {
  timeout "$(limit 30)" "$sanitizer" --tool "$1" --error-exitcode 9 "${@:2}" \
    >"$logs/$1.part" 2>&1
  local status=$?
  cat "$logs/$1.part" >>"$logs/$1.log"
  grep -q 'ERROR SUMMARY: 0 errors\|RACECHECK SUMMARY: 0 hazards' \
    "$logs/$1.part" || [[ $status -ne 0 ]] || status=1
  return $status
}
for tool in memcheck racecheck synccheck; do
  start=$SECONDS
  if [[ -z $gpu ]]; then
    part "compute-sanitizer $tool" skipped "no GPU ($no_gpu)" 0
  elif [[ -z $sanitizer ]]; then
    part "compute-sanitizer $tool" skipped "not installed" 0
  elif [[ $built == no ]]; then
    part "compute-sanitizer $tool" skipped "not built" 0
  elif sanitize $tool "$build/tree/jetson_test" --gtest_filter='*SmallCase*' &&
    sanitize $tool "$build/tree/gpu_bench" sinusoid --same-bits; then
    part "compute-sanitizer $tool" passed "no error" $((SECONDS - start))
  else
    part "compute-sanitizer $tool" failed \
      "$(reason $? "$logs/$tool.log")" $((SECONDS - start))
  fi
done

# Benchmarks.
python=$(command -v python3)
[[ ! -x build/peers/bin/python ]] || python=build/peers/bin/python
for name in sinusoid conv4-16 conv4-64; do
  start=$SECONDS
  if [[ -z $gpu || $built == no ]]; then
    part "bench $name, fewstep" skipped \
      "$([[ -n $gpu ]] && echo "not built" || echo "no GPU ($no_gpu)")" 0
    continue
  fi
  timeout "$(limit 40)" "$build/tree/gpu_bench" $name --engine cuda \
    --seconds 0.5 >"$logs/bench-$name.log" 2>&1
  status=$?
  if [[ $status -eq 0 ]]; then
    part "bench $name, fewstep" passed \
      "$(sed -n 's/.*"ms_per_step": \([0-9.e-]*\).*/\1 ms a meta-step/p' \
        "$logs/bench-$name.log")" $((SECONDS - start))
  elif [[ $status -eq 5 ]]; then
    part "bench $name, fewstep" skipped \
      "$(tail -n 1 "$logs/bench-$name.log")" $((SECONDS - start))
  else
    part "bench $name, fewstep" failed \
      "$(reason $status "$logs/bench-$name.log")" $((SECONDS - start))
  fi
done
start=$SECONDS
if [[ -z $gpu || $built == no ]]; then
  part "bench beside PyTorch and JAX" skipped \
    "$([[ -n $gpu ]] && echo "not built" || echo "no GPU ($no_gpu)")" 0
elif [[ -z $python ]]; then
  part "bench beside PyTorch and JAX" skipped "no python3" 0
elif ! "$build/tree/gpu_bench" sinusoid --engine cuda --seconds 0 \
  >/dev/null 2>&1; then
  part "bench beside PyTorch and JAX" skipped "no CUDA engine runs here" 0
else
  most=$(limit 100)
  PYTHONDONTWRITEBYTECODE=1 timeout "$most" "$python" \
    tools/gpu_check/gpu_bench.py "$build/tree/gpu_bench" "$logs/bench.json" \
    --seconds $((most > 30 ? most - 25 : 5)) 2>&1 | tee "$logs/bench.log"
  status=${PIPESTATUS[0]}
  case $status in
    0) part "bench beside PyTorch and JAX" passed "see the table above" \
      $((SECONDS - start)) ;;
    5) part "bench beside PyTorch and JAX" skipped \
      "$(tail -n 1 "$logs/bench.log")" $((SECONDS - start)) ;;
    *) part "bench beside PyTorch and JAX" failed \
      "$(reason "$status" "$logs/bench.log")" $((SECONDS - start)) ;;
  esac
fi

# Every GPU there is: as many compilers at a time as processors.
compile() {
  local arch=$1 file=$2 most=$3 start=$SECONDS log status
  log=$logs/sm_$arch-$(basename "$file").log
  timeout "$most" "$nvcc" -std=c++20 -O3 --fmad=false --ftz=false \
    --prec-div=true --prec-sqrt=true -Xcompiler=-ffp-contract=off \
    -Werror=all-warnings -Xptxas=-v -gencode "arch=compute_$arch,code=sm_$arch" \
    -Ilib/include -Idevice/include -Idevice/src -Ihost/include \
    -Iports/jetson/include -Iports/jetson -c "$file" -o /dev/null >"$log" 2>&1
  status=$?
  echo "$arch $status $((SECONDS - start)) $file" >"$log.status"
}
files=(tests/cuda/kernels.cu ports/jetson/cuda_backend.cu)
for file in host/cuda/*.cu; do [[ ! -e $file ]] || files+=("$file"); done
start=$SECONDS
most=$(limit 300)
until_then=$((SECONDS + most))
for arch in $archs; do
  for file in "${files[@]}"; do
    while [[ $(jobs -rp | wc -l) -ge $(nproc) ]]; do wait -n; done
    left=$((until_then - SECONDS))
    compile "$arch" "$file" $((left > 1 ? left : 1)) &
  done
done
wait
first=yes
for arch in $archs; do
  good=0 why='' slowest=0
  for file in "${files[@]}"; do
    log=$logs/sm_$arch-$(basename "$file").log
    read -r _ status took _ <"$log.status"
    [[ $took -le $slowest ]] || slowest=$took
    if [[ $status -eq 0 ]]; then
      good=$((good + 1))
    else
      why="$(basename "$file"): $(reason "$status" "$log")"
    fi
    # Registers and spills of every kernel, as ptxas says them.
    c++filt 2>/dev/null <"$log" | tr -d '\\"' | awk -v arch="$arch" \
      -v file="$(basename "$file")" -v first="$first" '
      /Compiling entry function/ { name = $0
        sub(/.*entry function ./, "", name); sub(/. for .sm_.*/, "", name) }
      /bytes stack frame/ { stack = $1; stores = $5; loads = $9 }
      /Used [0-9]+ registers/ { for (i = 1; i < NF; ++i) if ($i == "Used") regs = $(i + 1)
        printf "%s  {\"arch\": %s, \"file\": \"%s\", \"kernel\": \"%s\", \"registers\": %s, \"stack\": %s, \"spill_stores\": %s, \"spill_loads\": %s}",
          (first == "yes" && !n++ ? "" : ",\n"), arch, file, substr(name, 1, 120), regs, stack, stores, loads }' \
      >>"$logs/kernels.json"
    [[ ! -s $logs/kernels.json ]] || first=no
  done
  if [[ $good -eq ${#files[@]} ]]; then
    part "compile for sm_$arch" passed "$good files" "$slowest"
  else
    part "compile for sm_$arch" failed "$good of ${#files[@]} files; $why" \
      "$slowest"
  fi
done
finish
