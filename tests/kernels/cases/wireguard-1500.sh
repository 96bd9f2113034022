# containers routed through WireGuard, its MTU raised to 1500, over an underlay that loses fragments
build() { ns a b c d; wire a eth0 b eth0 1500; addr a 198.18.9.1/24 eth0; addr b 198.18.9.2/24 eth0
  for n in a b; do wg genkey >"$TMP/$n.key"; wg pubkey <"$TMP/$n.key" >"$TMP/$n.pub"; done
  for x in a:b:1:2 b:a:2:1; do IFS=: read n m i j <<<"$x"; ip -n $P-$n link add wg0 type wireguard
    in_ $n wg set wg0 private-key "$TMP/$n.key" listen-port 51820 peer "$(cat "$TMP/$m.pub")" endpoint 198.18.9.$j:51820 allowed-ips 198.18.50.$j/32,198.18.5$j.0/24
    addr $n 198.18.50.$i/24 wg0; ip -n $P-$n link set wg0 mtu 1500 up; route $n 198.18.5$j.0/24 dev wg0
    nft_ $n add table netdev fd; nft_ $n 'add chain netdev fd i { type filter hook ingress device "eth0" priority 0; }'; nft_ $n add rule netdev fd i 'ip frag-off & 0x3fff != 0 drop'; done
  for x in a:c:1 b:d:2; do IFS=: read n k i <<<"$x"; bridge_ $n br0 1500; wire $k eth0 $n v$k 1500; port $n v$k br0; addr $n 198.18.5$i.1/24 br0; addr $k 198.18.5$i.2/24 eth0; route $k default via 198.18.5$i.1; done
  fwd a b; serve d; fresh; }
truth() { in_ c ping -c1 -W2 198.18.52.2 >/dev/null && [ "$(get c https://198.18.52.2:8443/5)" = 000 ]; }
TO=https://198.18.52.2:8443/5
EXPECT='{"verdict":["broken"],"any":["MTU101"],"rev":[1440,1440],"fwd":[1440,1440],"fix":[1400,1440],"confirmed":true}'
SEE='c a'
