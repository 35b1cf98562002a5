#!/bin/sh
# The door to the tests that need more than a checkout: root, loop devices, namespaces, a real systemd, promtool,
# Alertmanager, BIND.
#
#   sudo ./tests/host/run.sh          runs every tests/host/*.sh but this one; each says why when it skips
#
# Exit status: 0 when none failed. A script exits 77 to say that it skipped.
set -u
cd "$(dirname "$0")/../.."
failed=0
passed=0
skipped=0
for script in tests/host/*.sh; do
    [ "$script" = tests/host/run.sh ] && continue
    echo "== $script"
    status=0
    "./$script" || status=$?
    case $status in
        0) passed=$((passed + 1)) ;;
        77) skipped=$((skipped + 1)) ;;
        *)
            failed=$((failed + 1))
            echo "== $script FAILED with status $status"
            ;;
    esac
done
echo "host tests: $passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
