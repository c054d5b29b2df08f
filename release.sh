#!/usr/bin/env bash
# Build wheel and sdist into dist/, install the wheel into an empty environment, and run `rushkit demo` there. `make release` calls it.
# Usage: release.sh PYTHON [--quick]     PYTHON has the package `build`; with --quick the new environment borrows what PYTHON has
#                                        installed, where it would download about 3 GB
set -euo pipefail
cd "$(dirname "$0")"
python=$(command -v "$1")
mode=${2:-full}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

say() { echo "release: $*"; }

version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' rushkit/__init__.py)
say "rushkit $version"
rm -rf dist
# The wheel is built from the sdist: what it lacks would be missing in the wheel.
isolation=()
if [ "$mode" = --quick ]; then isolation=(--no-isolation); fi
"$python" -m build --outdir dist "${isolation[@]}" . > "$work/build.log" 2>&1 || { cat "$work/build.log"; exit 1; }
wheel=$(ls dist/rushkit-"$version"-*.whl)
ls dist/rushkit-"$version".tar.gz > /dev/null

"$python" -m venv "$work/env"
if [ "$mode" = --quick ]; then
  say "installing $wheel into an environment that borrows what $python has"
  "$work/env/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps "$wheel"
  # A path alone: the editable rushkit of that environment stays behind.
  "$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
    > "$("$work/env/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/borrowed.pth"
else
  say "installing $wheel and all that it depends on into an empty environment: about 3 GB"
  "$work/env/bin/python" -m pip install --quiet --disable-pip-version-check "$wheel"
  "$work/env/bin/python" -m pip check
fi

mkdir "$work/empty"
cd "$work/empty"
for name in $(env | sed -n 's/^\(RUSHKIT_[A-Z_]*\)=.*/\1/p'); do unset "$name"; done
unset PYTHONPATH
place=$("$work/env/bin/python" -c 'import rushkit; print(rushkit.__file__)')
case "$place" in
  "$work/env/"*) ;;
  *) echo "error: rushkit was imported from $place, not from the wheel" >&2; exit 1 ;;
esac
said=$("$work/env/bin/rushkit" --version)
[ "$said" = "rushkit $version" ] || { echo "error: the wheel calls itself $said" >&2; exit 1; }
say "rushkit demo, in an empty folder"
"$work/env/bin/rushkit" demo
cd - > /dev/null

say "done ($mode): $(du -h dist/* | sed 's/\t/ /' | tr '\n' ' ')"
if grep -q "^## $version (unreleased)" CHANGELOG.md; then
  say "before an upload: CHANGELOG.md calls $version unreleased, and CITATION.cff has no date-released"
fi
