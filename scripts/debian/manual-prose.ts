/** What the manual says and `--help` does not. */

export type Prose = {
  readonly purpose: string;
  readonly description: readonly string[];
  readonly sections: readonly {
    readonly title: string;
    readonly entries: readonly (readonly [term: string, meaning: string])[];
  }[];
  readonly seeAlso: string;
};

export const PROSE: Readonly<Record<string, Prose>> = {
  lbd: {
    purpose: 'addresses for Kubernetes Services of type LoadBalancer on bare metal',
    description: [
      'lbd watches the Kubernetes API, gives each Service of type LoadBalancer an address from the pools in /etc/lbd.toml, writes it into the status of the Service, and puts it on the network interface whose subnet holds it. The kernel answers for it.',
      'It runs on each host as the service lbd.service: edit lbd.toml(5), look at it with "lbd check", start it with "systemctl enable --now lbd", and see with lbctl(1) what it does.',
      'Every address it adds has a lifetime in the kernel that lbd keeps renewing. When lbd is gone for good, so are they, in at most that time.',
    ],
    sections: [
      {
        title: 'SIGNALS',
        entries: [
          [
            'SIGHUP',
            'Read the configuration again. One with an error is refused whole, and lbd goes on with what it had.',
          ],
          [
            'SIGTERM',
            'Stop and leave the addresses, because a restart may follow; "lbd cleanup" takes them off.',
          ],
          ['SIGINT', 'Stop and take the addresses off.'],
        ],
      },
      {
        title: 'ENVIRONMENT',
        entries: [
          [
            'LBD_NATIVE_DIR',
            'A directory on a mount without noexec, where lbd may write its native addon for the moment of loading it. Needed only where none of its own directories will do.',
          ],
          ['NOTIFY_SOCKET, WATCHDOG_USEC', 'Set by systemd, see sd_notify(3).'],
          ['SERVICE_RESULT', 'Set by systemd for ExecStopPost=; read by "lbd cleanup --unless-restarting".'],
        ],
      },
      {
        title: 'FILES',
        entries: [
          ['/etc/lbd.toml', 'The configuration, see lbd.toml(5).'],
          ['/etc/lbd/kubeconfig', 'How to reach the API server; readable by root and the group lbd only.'],
          [
            '/var/lib/lbd',
            'What lbd remembers: the last known Services, and what the ARP sysctls were before it.',
          ],
          ['/run/lbd/lbd.sock', 'The control socket; the group lbd may use it.'],
          ['/usr/share/lbd/lbd.schema.json', 'The JSON Schema of the configuration, for editors.'],
        ],
      },
    ],
    seeAlso: 'lbctl(1), lbd.toml(5), systemctl(1), systemd.service(5), ip-address(8)',
  },
  lbctl: {
    purpose: 'show what lbd does on this host, and why; drain it',
    description: [
      'lbctl asks the lbd of this host over its control socket. Root and the members of the group lbd may.',
      'Where hosts share the addresses out among them ([gossip] in lbd.toml(5)), it shows them and moves addresses: members, explain, drain, undrain and rebalance.',
    ],
    sections: [
      {
        title: 'ENVIRONMENT',
        entries: [
          ['LBD_SOCKET', 'The control socket, in place of the default.'],
          [
            'NO_COLOR',
            'When set to anything, nothing is coloured. Neither is it when the output is no terminal.',
          ],
        ],
      },
      { title: 'FILES', entries: [['/run/lbd/lbd.sock', 'The control socket.']] },
    ],
    seeAlso: 'lbd(8), lbd.toml(5)',
  },
  'lbd.toml': {
    purpose: 'the configuration of lbd',
    description: [
      'A TOML file, /etc/lbd.toml. Every key has a default but those of a pool. "lbd check" prints each problem with its line, and what the configuration means on this host; "systemctl reload lbd" makes a running lbd take it.',
      'An editor that knows JSON Schema for TOML completes and checks it: the first line names the schema.',
    ],
    sections: [
      {
        title: 'FILES',
        entries: [['/etc/lbd.toml', 'As installed, every key is in it with its default, behind a "#".']],
      },
    ],
    seeAlso: 'lbd(8), lbctl(1)',
  },
};
