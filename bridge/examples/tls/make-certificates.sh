#!/bin/sh
# An authority of your own, and a certificate for each machine: make-certificates.sh DIRECTORY NAME=ADDRESS...
# NAME is what access lists call the machine; ADDRESS is the name or the IP address under which others connect to it.
set -eu
directory=$1
shift
umask 077
mkdir -p "$directory"
cd "$directory"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 -subj "/CN=wigwag bridges" \
    -keyout ca.key -out ca.pem 2>/dev/null
for machine in "$@"; do
    name=${machine%%=*}
    address=${machine#*=}
    case $address in
        *[!0-9.]*) kind=DNS ;;
        *) kind=IP ;;
    esac
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$name" \
        -keyout "$name.key" -out "$name.csr" 2>/dev/null
    printf 'subjectAltName=%s:%s\nextendedKeyUsage=serverAuth,clientAuth\n' "$kind" "$address" > "$name.ext"
    openssl x509 -req -in "$name.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days 365 -extfile "$name.ext" \
        -out "$name.pem" 2>/dev/null
    rm "$name.csr" "$name.ext"
done
