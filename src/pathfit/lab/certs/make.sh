#!/bin/sh
# Makes the certificates of the labs. Run in this folder; needs openssl. The keys are public on purpose:
# they protect nothing and must never be trusted by anything outside a lab.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
days=36500 # 100 years: a test must not start to fail because time went by

ca() { printf 'basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n'; }
# As many names as a public site's certificate has: they make it as large as one.
names=DNS:lab.invalid
for i in $(seq 1 40); do names="$names,DNS:site-$i.lab.invalid"; done
leaf() { printf 'basicConstraints=CA:FALSE\nsubjectAltName=%s\nextendedKeyUsage=serverAuth\n' "$names"; }

# RSA 4096 root and intermediate, RSA 2048 server: more than 4 kB of DER in one flight, so at least three full
# segments of 1460 bytes leave the server when it answers a ClientHello.
openssl req -x509 -newkey rsa:4096 -nodes -keyout "$work/root.key" -out "$work/root.pem" -days $days \
    -subj '/O=pathfit lab, trust nothing signed by this/CN=pathfit lab root' 2>/dev/null
openssl req -newkey rsa:4096 -nodes -keyout "$work/mid.key" -out "$work/mid.csr" \
    -subj '/O=pathfit lab, trust nothing signed by this/CN=pathfit lab intermediate' 2>/dev/null
ca >"$work/ca.ext"
openssl x509 -req -in "$work/mid.csr" -CA "$work/root.pem" -CAkey "$work/root.key" -CAcreateserial -days $days \
    -extfile "$work/ca.ext" -out "$work/mid.pem" 2>/dev/null
openssl req -newkey rsa:2048 -nodes -keyout chain.key -out "$work/srv.csr" -subj '/CN=lab.invalid' 2>/dev/null
leaf >"$work/leaf.ext"
openssl x509 -req -in "$work/srv.csr" -CA "$work/mid.pem" -CAkey "$work/mid.key" -CAcreateserial -days $days \
    -extfile "$work/leaf.ext" -out "$work/srv.pem" 2>/dev/null
cat "$work/srv.pem" "$work/mid.pem" "$work/root.pem" >chain.pem
cp "$work/root.pem" root.pem

# A small one: P-256, self-signed; the whole server flight fits into one segment.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout ec.key -out ec.pem -days $days \
    -subj '/CN=lab.invalid' -addext 'subjectAltName=DNS:lab.invalid' 2>/dev/null

# One that ended long ago.
openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout expired.key -out "$work/exp.csr" \
    -subj '/CN=lab.invalid' 2>/dev/null
cat >"$work/ca.cnf" <<EOF
[ca]
default_ca = lab
[lab]
database = $work/index.txt
new_certs_dir = $work
serial = $work/serial
default_md = sha256
policy = any
[any]
commonName = supplied
EOF
: >"$work/index.txt"
echo 01 >"$work/serial"
openssl ca -batch -notext -config "$work/ca.cnf" -cert "$work/root.pem" -keyfile "$work/root.key" \
    -in "$work/exp.csr" -out expired.pem -startdate 20000101000000Z -enddate 20010101000000Z 2>/dev/null
chmod 644 ./*.pem ./*.key
