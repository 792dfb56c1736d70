#!/usr/bin/env bash
# Get etcd, kubectl, kube-apiserver and kube-controller-manager 1.20.2 from Debian, into a folder of the cache.
#
# No registry of packages has a newer server. The two programs of Kubernetes are built from Debian's source package,
# which takes some minutes; the others are taken out of their packages, so that no service starts on this machine.
# Only the first run does any of it. Prints the folder.
#
# Needs Debian on Linux, and root where a tool of the build is missing.
set -euo pipefail

VERSION=1.20.5+really1.20.2-1.1+deb12u1
UPSTREAM=1.20.2
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/reconciler-tests/kubernetes-$UPSTREAM
KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

say() { echo "$*" >&2; }
fail() {
    say "no cluster for the tests: $*"
    say "elsewhere, name a folder with kube-apiserver, kube-controller-manager and etcd: KUBERNETES_BINARIES"
    exit 1
}

if [ -n "${KUBERNETES_BINARIES:-}" ]; then
    echo "$KUBERNETES_BINARIES"
    exit
fi
has() { [ -x "$CACHE/$1" ] || command -v "$1" >/dev/null; }
has_servers() { [ -x "$CACHE/kube-apiserver" ] && [ -x "$CACHE/kube-controller-manager" ]; }
if has etcd && has kubectl && has_servers; then
    echo "$CACHE"
    exit
fi

[ "$(uname -s)" = Linux ] || fail "it runs on Linux alone, and this is $(uname -s)"
command -v apt-get >/dev/null || fail "it comes from Debian's packages, and this machine has no apt-get"
[ -r "$KEYRING" ] || fail "it comes from Debian's packages, and $KEYRING is not there: this is no Debian"

mkdir -p "$CACHE"
work=$(mktemp -d "$CACHE/build.XXXXXX")
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT

# The machine's own sources name a mirror of Debian. Lists of this script's own ask that mirror, so that neither root
# nor a change of the machine's sources is needed.
mirror=$(apt-get indextargets --no-release-info --format '$(RELEASE)|$(REPO_URI)' 'Created-By: Packages' |
    sed -n 's/^\(bookworm\|trixie\|stable\|oldstable\)|//p' | sort -u | head -n 1)
[ -n "$mirror" ] || fail "no mirror of Debian 12 or 13 is among the sources of apt-get"
mkdir -p "$work/lists/partial"
for kind in deb deb-src; do echo "$kind [signed-by=$KEYRING] $mirror bookworm main"; done >"$work/sources.list"
apt=(apt-get -q -o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$work/lists"
    -o APT::Sandbox::User=root)
"${apt[@]}" update >&2 || fail "the lists of $mirror can't be had"

for each in etcd:etcd-server kubectl:kubernetes-client; do
    name=${each%%:*} package=${each#*:}
    has "$name" && continue
    say "fetching $name"
    (cd "$work" && "${apt[@]}" download "$package" >&2 && dpkg-deb -x "$package"_*.deb "$name")
    mv "$work/$name/usr/bin/$name" "$CACHE/"
done
if ! has_servers; then
    packages=()
    for each in rsync:rsync jq:jq make:make; do
        command -v "${each%%:*}" >/dev/null || packages+=("${each#*:}")
    done
    if [ ${#packages[@]} -gt 0 ]; then
        [ "$(id -u)" = 0 ] || fail "the build needs ${packages[*]}: apt-get install ${packages[*]}"
        say "installing ${packages[*]}"
        { apt-get update -q && apt-get install -qy --no-install-recommends "${packages[@]}"; } >&2 ||
            fail "${packages[*]} can't be installed"
    fi
    say "fetching the source of Kubernetes $UPSTREAM, and Go"
    (cd "$work" && "${apt[@]}" source --download-only "kubernetes=$VERSION" >&2)
    # Newer versions of Go refuse what this source does. The version of its time is used from where it is unpacked.
    (cd "$work" && "${apt[@]}" download golang-1.19-go golang-1.19-src >&2 &&
        for each in golang-1.19-*.deb; do dpkg-deb -x "$each" go; done)
    export GOROOT=$work/go/usr/lib/go-1.19
    export PATH=$GOROOT/bin:$PATH

    tree=$work/src/k8s.io/kubernetes
    mkdir -p "$tree" "$work/bin"
    tar -xzf "$work/kubernetes_${VERSION%-*}.orig.tar.gz" --strip-components=1 -C "$tree"
    say "building kube-apiserver and kube-controller-manager, some minutes"
    cd "$tree"
    export GOPATH=$work GO111MODULE=off CGO_ENABLED=0 GOCACHE=$work/cache GOFLAGS=
    export KUBE_GIT_VERSION=v$UPSTREAM KUBE_GIT_COMMIT=debian KUBE_GIT_TREE_STATE=archive
    export KUBE_GIT_MAJOR=1 KUBE_GIT_MINOR=20
    make -s gen_openapi >&2
    version=k8s.io/kubernetes/vendor/k8s.io/component-base/version
    go build -tags providerless \
        -ldflags "-s -w -X $version.gitVersion=v$UPSTREAM -X $version.gitMajor=1 -X $version.gitMinor=20" \
        -o "$work/bin/" ./cmd/kube-apiserver ./cmd/kube-controller-manager >&2
    # The one that is looked for comes last.
    mv "$work/bin/kube-apiserver" "$CACHE/"
    mv "$work/bin/kube-controller-manager" "$CACHE/"
fi
echo "$CACHE"
