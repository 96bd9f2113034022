# Geneve devices raised to 1500 over an underlay of 1500, outer DF set; "too big" never reaches the two ends
build() { ns a b; wire a eth0 b eth0 1500; addr a 198.18.9.1/24 eth0; addr b 198.18.9.2/24 eth0
  for x in a:2 b:1; do IFS=: read n j <<<"$x"; ip -n $P-$n link add gv0 type geneve id 77 remote 198.18.9.$j df set; ip -n $P-$n link set gv0 mtu 1500 up; in_ $n ethtool -K gv0 tso off gso off gro off tx off >/dev/null 2>&1; done
  ns c d; for x in a:c:1 b:d:2; do IFS=: read n k i <<<"$x"; bridge_ $n br0 1500; wire $k eth0 $n v$k 1500; port $n v$k br0; port $n gv0 br0; addr $k 198.18.50.$i/24 eth0; done; noptb c; noptb d; serve d; fresh; }
truth() { in_ c ping -c1 -W1 198.18.50.2 >/dev/null && [ "$(get c https://198.18.50.2:8443/5)" = 000 ]; }
TO=https://198.18.50.2:8443/5
EXPECT='{"verdict":["broken"],"any":["MTU104"],"rev":[1450,1450],"fix":[1442,1450],"confirmed":true}'
SEE='c a'
