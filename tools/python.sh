#!/bin/sh
# Runs tools/setup.py with a Python that can do it: the newest of 3.11 to 3.14 on PATH (or $PYTHON), unless the set-up
# in .venv is already what is wanted. Called by the Makefile; everything else is in setup.py.
set -u
cd "$(dirname "$0")/.." || exit 1

if [ -z "${PYTHON:-}" ] && [ -x .venv/bin/python ] && .venv/bin/python -IS tools/setup.py --ready "$@"; then
    exit 0
fi

# A name on PATH may be a shim that does not work, so each is tried: it says its version, and ends with 3 if that is not
# suitable, with 4 if it lacks ensurepip, which is what brings pip and what Debian leaves out.
question='
import platform, sys
print(platform.python_version())
if not (3, 11) <= sys.version_info < (3, 15) or sys.implementation.name != "cpython":
    sys.exit(3)
try:
    import ensurepip, venv
except ImportError:
    sys.exit(4)
'
seen='' incomplete=''
for candidate in ${PYTHON:-python3.14 python3.13 python3.12 python3.11 python3 python}; do
    command -v "$candidate" >/dev/null 2>&1 || continue
    version=$("$candidate" -c "$question" 2>/dev/null)
    case $? in
    0) exec "$candidate" -I tools/setup.py "$@" ;;
    3) seen="$seen $candidate $version," ;;
    4) incomplete="$candidate ($version)" ;;
    esac
done

if [ -n "$incomplete" ]; then
    echo "setup: $incomplete cannot make a virtual environment (no ensurepip): apt-get install python3-venv" >&2
else
    echo "setup: needs Python 3.11 to 3.14, found${seen:- none}: apt-get install python3 python3-venv (Debian 12 or newer), brew install python@3.13 (macOS), or https://www.python.org/downloads/" >&2
fi
exit 1
