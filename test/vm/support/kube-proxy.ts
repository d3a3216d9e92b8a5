import type { Machine } from './machine.ts';

/** What kube-proxy in IPVS mode makes of a Service of type LoadBalancer on its node. */

const BACKEND_PORT = 8080;

/**
 * The address on the dummy `kube-ipvs0`, which stays down, and a virtual server for its port 80 with a backend of this
 * machine. Nothing listens on port 80: what answers there came through IPVS, and says the machine's name.
 */
export async function proxyByIpvs(machine: Machine, ip: string): Promise<void> {
  await machine.run(
    `set -e
    modprobe ip_vs
    ip link add kube-ipvs0 type dummy
    ip addr add ${ip}/32 dev kube-ipvs0
    mkdir -p /run/backend
    echo "$(hostname) through IPVS" >/run/backend/index.html
    systemd-run --quiet --unit backend busybox httpd -f -p ${machine.ip}:${BACKEND_PORT} -h /run/backend`,
  );
  await machine.writeFile('/run/virtual-server', VIRTUAL_SERVER, '755');
  await machine.run(`/run/virtual-server ${ip} 80 ${machine.ip} ${BACKEND_PORT}`);
}

/** In place of ipvsadm, which is no part of a minimal Debian (linux/ip_vs.h). */
const VIRTUAL_SERVER = `#!/usr/bin/perl
use strict;
use Socket;
my ($ip, $port, $backend_ip, $backend_port) = @ARGV;
my ($IPPROTO_TCP, $IP_VS_SO_SET_ADD, $IP_VS_SO_SET_ADDDEST) = (6, 1154, 1159);
my $service = pack('S x2 a4 n x2 L a16 L L a4',
    $IPPROTO_TCP, inet_aton($ip), $port, 0, 'rr', 0, 0, inet_aton('255.255.255.255'));
my $destination = pack('a4 n x2 L l L L', inet_aton($backend_ip), $backend_port, 0, 1, 0, 0);
socket(my $socket, AF_INET, SOCK_RAW, 255) or die "socket: $!";
setsockopt($socket, 0, $IP_VS_SO_SET_ADD, $service) or die "IP_VS_SO_SET_ADD: $!";
setsockopt($socket, 0, $IP_VS_SO_SET_ADDDEST, $service . $destination) or die "IP_VS_SO_SET_ADDDEST: $!";
`;
