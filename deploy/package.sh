#!/bin/sh
# Builds the Debian packages quell, quell-agent and quell-controller.
#
#   ./deploy/package.sh [--profile PROFILE] [--out DIRECTORY]     default: release, and packages/ below Cargo's target
#
# It needs Rust, a C compiler with its binutils, and dpkg-deb; no root. What the packages depend on is read from the
# programs: build on the oldest system that they are to run on. The paths of what was made are on standard output.
set -eu
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-target}
profile=release
out=$target/packages
while [ $# -gt 0 ]; do
    case $1 in
        --profile) profile=$2 ;;
        --out) out=$2 ;;
        *) echo "package: $1 is not known: ./deploy/package.sh [--profile PROFILE] [--out DIRECTORY]" >&2; exit 2 ;;
    esac
    shift 2
done
for program in cargo dpkg-deb objdump strip; do
    command -v "$program" >/dev/null 2>&1 || { echo "package: $program is not installed" >&2; exit 1; }
done

cargo build --locked --profile "$profile" --bin quell --bin quell-agent --bin quell-controller >&2
case $profile in dev) built=$target/debug ;; *) built=$target/$profile ;; esac

version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
architecture=$(dpkg --print-architecture)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
umask 022
mkdir -p "$out"

# The newest version of the C library that a program asks for.
libc_of() {
    {
        objdump -T "$1" | sed -n 's/.*(\{0,1\}GLIBC_\([0-9][0-9.]*\).*/\1/p'
        # Packed relocations (agent/build.rs) come with no symbol, but need a loader that knows them.
        if objdump -p "$1" | grep GLIBC_ABI_DT_RELR >/dev/null; then echo 2.36; fi
    } | sort -Vu | tail -n 1
}

# Begins the tree of package $1 with its program.
begin() {
    root=$work/$1
    install -D -m 0755 "$built/$1" "$root/usr/bin/$1"
    strip --strip-unneeded "$root/usr/bin/$1"
    mkdir -p "$root/usr/share/doc/$1"
    cat LICENSE-APACHE LICENSE-MIT >"$root/usr/share/doc/$1/copyright"
}

# The unit in the repository is for programs that were installed by hand.
add_unit() {
    mkdir -p "$root/usr/lib/systemd/system"
    sed 's|/usr/local/bin/|/usr/bin/|' "deploy/systemd/$1.service" >"$root/usr/lib/systemd/system/$1.service"
}

add_manual() {
    "$built/quell" man "$root/usr/share/man/man1" >&2
    gzip -9n "$root"/usr/share/man/man1/*
    for shell in bash zsh fish; do
        "$built/quell" completions "$shell" >"$work/$shell"
    done
    install -D -m 0644 "$work/bash" "$root/usr/share/bash-completion/completions/quell"
    install -D -m 0644 "$work/zsh" "$root/usr/share/zsh/vendor-completions/_quell"
    install -D -m 0644 "$work/fish" "$root/usr/share/fish/vendor_completions.d/quell.fish"
}

# Puts package $1 together.
end() {
    mkdir "$root/DEBIAN"
    depends="libc6 (>= $(libc_of "$root/usr/bin/$1")), libgcc-s1"
    sed -e "s/@VERSION@/$version/" -e "s/@ARCHITECTURE@/$architecture/" -e "s/@DEPENDS@/$depends/" \
        "deploy/debian/$1/control" >"$root/DEBIAN/control"
    for script in postinst prerm postrm; do
        [ ! -e "deploy/debian/$1/$script" ] || install -m 0755 "deploy/debian/$1/$script" "$root/DEBIAN/$script"
    done
    package=$out/${1}_${version}_$architecture.deb
    # Level 3 is almost as small as the highest and takes a tenth of the time.
    dpkg-deb --root-owner-group -z3 --build "$root" "$package" >&2
    echo "$package"
}

begin quell
add_manual
end quell
for service in quell-agent quell-controller; do
    begin "$service"
    add_unit "$service"
    end "$service"
done
