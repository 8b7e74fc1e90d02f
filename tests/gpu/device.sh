#!/usr/bin/env bash
# What a machine with a GPU runs, from the root of a checkout; python3 there has torch, numba-cuda, numpy, hypothesis.
#
#     bash tests/gpu/device.sh FOLDER PART..     parts: tests campaign exp sanitize time long traffic profile tune
#
# Nothing is installed: the packages are laid out under their installed names in a folder of their own.  Each part has
# a limit of its own and leaves a file in FOLDER; what is printed goes to FOLDER/device.log too.  The exit code is that
# of the first part that failed.
set -uo pipefail
folder=$1
shift
mkdir -p "$folder"
site=$(mktemp -d)
cp -R moaproof "$site"
cp -R certs kernels rewrite_rules "$site/moaproof"
export PYTHONPATH=$site${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 MOAPROOF_CACHE=off
worst=0

run() { # seconds, name, command..
  local limit=$1 name=$2
  shift 2
  local start=$SECONDS
  timeout "$limit" "$@" 2>&1 | tee -a "$folder/device.log"
  local code=${PIPESTATUS[0]}
  echo "== $name: exit $code after $((SECONDS - start)) s" | tee -a "$folder/device.log"
  [ "$worst" -eq 0 ] && worst=$code
  return "$code"
}

# The four tools side by side, each on every text, and each on a planted fault that it must find.
sanitize() {
  local tool code start=$SECONDS waiting=()
  for tool in memcheck racecheck synccheck initcheck; do
    for plant in "" "--plant $tool"; do
      # shellcheck disable=SC2086  an empty option is no argument
      PYTORCH_NO_CUDA_MEMORY_CACHING=1 timeout 400 compute-sanitizer --tool "$tool" --error-exitcode 9 \
        --report-api-errors no python3 tests/gpu/sanitize.py $plant > "$site/$tool${plant:+.planted}" 2>&1 &
      waiting+=("$! $tool${plant:+.planted}")
    done
  done
  {
    echo "command: compute-sanitizer --tool TOOL --error-exitcode 9 --report-api-errors no python3 tests/gpu/sanitize.py"
    compute-sanitizer --version | tail -n 1
    nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
    sha256sum kernels/*_cuda_*.py
  } > "$folder/sanitize.log"
  for tool in "${waiting[@]}"; do
    wait "${tool%% *}"
    code=$?
    tool=${tool#* }
    { echo "== $tool: exit $code"; grep -v "^#" "$site/$tool" | tail -n 40; } >> "$folder/sanitize.log"
    echo "== $tool: exit $code after at most $((SECONDS - start)) s" | tee -a "$folder/device.log"
    case $tool:$code in
      *.planted:9) ;;
      *.planted:*) worst=1 ;;
      *:0) ;;
      *) worst=1 ;;
    esac
  done
}

for part in "$@"; do
  case $part in
    tests) run 300 tests python3 -P -m pytest -q -W default -o pythonpath= -p no:cacheprovider tests/gpu ;;
    campaign) run 580 campaign python3 tests/gpu/campaign.py "$folder" ;;
    exp) run 500 exp python3 tests/gpu/exp.py "$folder" ;;
    sanitize) sanitize ;;
    time | long | traffic | profile | tune) run 400 "$part" python3 benchmarks/gpu.py "$part" "$folder" ;;
    *)
      echo "no part $part"
      worst=2
      ;;
  esac
done
rm -rf "$site"
exit "$worst"
