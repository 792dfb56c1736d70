#!/usr/bin/env bash
# Build kube-apiserver and kube-controller-manager 1.20.2 from Debian's own source package, and install etcd and kubectl.
#
# No registry of packages has a newer server. The two binaries are kept in a folder of the cache, so that only the first
# run builds them. Prints that folder. Needs apt-get and, where a package is missing, root.
set -euo pipefail

VERSION=1.20.5+really1.20.2-1.1+deb12u1
UPSTREAM=1.20.2
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/reconciler-tests/kubernetes-$UPSTREAM
KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

say() { echo "$*" >&2; }

packages=()
for each in etcd:etcd-server openssl:openssl kubectl:kubernetes-client; do
    command -v "${each%%:*}" >/dev/null || packages+=("${each#*:}")
done
if ! [ -x "$CACHE/kube-controller-manager" ]; then
    for each in go:golang-go rsync:rsync jq:jq make:make; do
        command -v "${each%%:*}" >/dev/null || packages+=("${each#*:}")
    done
fi
if [ ${#packages[@]} -gt 0 ]; then
    say "installing ${packages[*]}"
    { apt-get update -q && apt-get install -qy --no-install-recommends "${packages[@]}"; } >&2
fi

if ! [ -x "$CACHE/kube-controller-manager" ]; then
    mkdir -p "$CACHE"
    work=$(mktemp -d "$CACHE/build.XXXXXX")
    trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT

    # The machine's own sources name a mirror of Debian. A list of this script's own asks that mirror for sources.
    mirror=$(apt-get indextargets --format '$(ORIGIN)|$(CODENAME)|$(REPO_URI)' 'Created-By: Packages' |
        sed -n 's/^Debian|\(bookworm\|trixie\)|//p' | sort -u | head -n 1)
    [ -n "$mirror" ] || { say "no mirror of Debian is among the sources of this machine"; exit 1; }
    mkdir -p "$work/lists/partial"
    echo "deb-src [signed-by=$KEYRING] $mirror bookworm main" >"$work/sources.list"
    apt=(apt-get -q -o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$work/lists")
    say "fetching the source of Kubernetes $UPSTREAM"
    "${apt[@]}" update >&2
    (cd "$work" && "${apt[@]}" source --download-only "kubernetes=$VERSION" >&2)

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
