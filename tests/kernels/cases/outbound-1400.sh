# the way out ends at a router's device of MTU 1400, which drops in silence; the way in comes by another cable
build() { stage 1500 1500 1500; ip -n $P-r link set rh mtu 1400; wire h eth1 r rh1 1500; addr h 198.18.4.2/24 eth1; addr r 198.18.4.1/24 rh1
  route r 198.18.2.2/32 via 198.18.4.2; fresh; }
truth() { [ "$(get c https://198.18.3.2:8443/200000 8)" = 200 ] && [ "$(put c https://198.18.3.2:8443/ 3)" = 000 ]; }
TO=https://198.18.3.2:8443/5
EXPECT='{"verdict":["broken"],"first":["MTU102"],"none":["MTU101"],"fwd":[1404,1404],"rev":[1500,1500],"fix":[1396,1404],"confirmed":true}'
