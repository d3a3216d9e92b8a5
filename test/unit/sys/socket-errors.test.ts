import assert from 'node:assert/strict';
import { closeSync, readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import {
  AF_INET6,
  AF_NETLINK,
  AF_UNIX,
  ETH_P_ARP,
  NETLINK_ROUTE,
  SO_RCVBUF,
  SOCK_DGRAM,
  SOCK_RAW,
  SOCK_STREAM,
  SOL_NETLINK,
  SOL_SOCKET,
} from '../../../src/sys/constants.ts';
import { sockaddrInet6, sockaddrNetlink, sockaddrPacket } from '../../../src/sys/sockaddr.ts';
import { RawSocket, setSocketOptionOnFd, socketOptionOnFd } from '../../../src/sys/socket.ts';
import { isSystemError } from '../../../src/sys/system-error.ts';
import { native, uniqueName, unixAddress, unixPair } from './support.ts';

/** asm-generic/socket.h; the same number as SO_ATTACH_FILTER. */
const SO_GET_FILTER = 26;
const LOOPBACK = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1);

/** Asserts the whole shape of a system error, and that the message is made of it. */
function assertSystemError(
  action: () => unknown,
  expected: { code: string; errno: number; syscall: string; args: string },
): void {
  assert.throws(action, (error: unknown) => {
    assert.ok(error instanceof Error && isSystemError(error, expected.code), String(error));
    const { code, errno, syscall, args } = error;
    assert.deepEqual({ code, errno, syscall, args }, expected);
    assert.ok(error.message.startsWith(`${syscall}(${args}): ${code}: `), error.message);
    return true;
  });
}

function withSocket(domain: number, type: number, protocol: number, use: (socket: RawSocket) => void): void {
  const socket = new RawSocket(domain, type, protocol);
  try {
    use(socket);
  } finally {
    socket.close();
  }
}

describe('errors of system calls', () => {
  it('openSocket() names domain, type and protocol', () => {
    assertSystemError(() => new RawSocket(999, SOCK_RAW, 5), {
      code: 'EAFNOSUPPORT',
      errno: -97,
      syscall: 'socket',
      args: 'family=999, SOCK_RAW, protocol=5',
    });
    assertSystemError(() => new RawSocket(AF_INET6, 99, 0), {
      code: 'EINVAL',
      errno: -22,
      syscall: 'socket',
      args: 'AF_INET6, type=99, protocol=0',
    });
  });

  it('bind() names groups of netlink, interface of packet, address and port of inet6, path of unix', () => {
    withSocket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE, (socket) => {
      socket.bind(sockaddrNetlink());
      assertSystemError(() => socket.bind(sockaddrNetlink(4_000_000_000, 0x11)), {
        code: 'EINVAL',
        errno: -22,
        syscall: 'bind',
        args: 'AF_NETLINK, pid=4000000000, groups=0x11',
      });
    });
    withSocket(AF_INET6, SOCK_DGRAM, 0, (socket) => {
      const documentation = Uint8Array.of(0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9);
      assertSystemError(() => socket.bind(sockaddrInet6(documentation, 53)), {
        code: 'EADDRNOTAVAIL',
        errno: -99,
        syscall: 'bind',
        args: 'AF_INET6, [2001:db8::9]:53',
      });
    });
    withSocket(AF_UNIX, SOCK_DGRAM, 0, (socket) => {
      assertSystemError(() => socket.bind(unixAddress('/nonexistent/lbd.sock')), {
        code: 'ENOENT',
        errno: -2,
        syscall: 'bind',
        args: 'AF_UNIX, path=/nonexistent/lbd.sock',
      });
    });
    withSocket(AF_UNIX, SOCK_DGRAM, 0, (socket) => {
      assertSystemError(() => socket.bind(sockaddrPacket(7, ETH_P_ARP)), {
        code: 'EINVAL',
        errno: -22,
        syscall: 'bind',
        args: 'AF_UNIX, ifindex=7, protocol=0x0806',
      });
    });
  });

  it('connect() and send() name the receiver', () => {
    const name = uniqueName();
    withSocket(AF_UNIX, SOCK_DGRAM, 0, (socket) => {
      const refused = { code: 'ECONNREFUSED', errno: -111 };
      assertSystemError(() => socket.connect(unixAddress(name)), {
        ...refused,
        syscall: 'connect',
        args: `AF_UNIX, path=${name}`,
      });
      assertSystemError(() => socket.send(new Uint8Array(3), unixAddress(name)), {
        ...refused,
        syscall: 'sendmsg',
        args: `AF_UNIX, 3 bytes, path=${name}`,
      });
      assertSystemError(() => socket.send(new Uint8Array(3)), {
        code: 'ENOTCONN',
        errno: -107,
        syscall: 'sendmsg',
        args: 'AF_UNIX, 3 bytes',
      });
    });
  });

  it('setsockopt() and getsockopt() name known options, and others by number', () => {
    withSocket(AF_UNIX, SOCK_DGRAM, 0, (socket) => {
      assertSystemError(() => socket.setOption(SOL_SOCKET, SO_RCVBUF, new Uint8Array(1)), {
        code: 'EINVAL',
        errno: -22,
        syscall: 'setsockopt',
        args: 'AF_UNIX, SOL_SOCKET, SO_RCVBUF, 1 bytes',
      });
      assertSystemError(() => socket.option(SOL_NETLINK, 77, 4), {
        code: 'EOPNOTSUPP',
        errno: -95,
        syscall: 'getsockopt',
        args: 'AF_UNIX, level=270, option=77',
      });
    });
    assertSystemError(() => setSocketOptionOnFd(1_000_000, SOL_SOCKET, SO_RCVBUF, 1), {
      code: 'EBADF',
      errno: -9,
      syscall: 'setsockopt',
      args: 'fd=1000000, SOL_SOCKET, SO_RCVBUF, 4 bytes',
    });
  });

  it('getsockopt() refuses SO_GET_FILTER, whose length the kernel counts in instructions', () => {
    withSocket(AF_UNIX, SOCK_DGRAM, 0, (socket) => {
      assert.throws(() => socket.option(SOL_SOCKET, SO_GET_FILTER, 8), TypeError);
    });
  });

  it('attachFilter() takes a program, refuses one that is no multiple of 8 bytes and one the kernel refuses', () => {
    withSocket(AF_UNIX, SOCK_DGRAM, 0, (socket) => {
      // BPF_RET | BPF_K, 0xffff: accepts every datagram
      socket.attachFilter(Uint8Array.of(0x06, 0, 0, 0, 0xff, 0xff, 0, 0));
      assert.throws(() => socket.attachFilter(new Uint8Array(9)), TypeError);
      assertSystemError(() => socket.attachFilter(Uint8Array.of(0xff, 0xff, 0, 0, 0, 0, 0, 0)), {
        code: 'EINVAL',
        errno: -22,
        syscall: 'setsockopt',
        args: 'AF_UNIX, SOL_SOCKET, SO_ATTACH_FILTER, 1 instructions',
      });
    });
  });

  it('every call on a closed socket is EBADF, and close() is harmless', () => {
    const { receiver, sender } = unixPair();
    sender.close();
    const calls: Record<string, () => unknown> = {
      bind: () => sender.bind(sockaddrNetlink()),
      connect: () => sender.connect(sockaddrNetlink()),
      getsockname: () => sender.localAddress(),
      setsockopt: () => sender.setOption(SOL_SOCKET, SO_RCVBUF, 1),
      getsockopt: () => sender.option(SOL_SOCKET, SO_RCVBUF, 4),
      sendmsg: () => sender.send(new Uint8Array(1)),
      sendmmsg: () => sender.sendMany([{ bytes: new Uint8Array(1) }]),
      poll: () => sender.startPolling({ onThrow() {} }),
      release: () => sender.release(),
    };
    for (const [syscall, call] of Object.entries(calls)) {
      assertSystemError(call, { code: 'EBADF', errno: -9, syscall, args: 'AF_UNIX, closed socket' });
    }
    sender.stopPolling();
    sender.close();
    receiver.close();
  });

  it('startPolling() refuses a second poll, and reading of a stream', () => {
    const { receiver, close } = unixPair();
    receiver.startPolling({ onThrow() {} });
    assertSystemError(() => receiver.startPolling({ onThrow() {} }), {
      code: 'EALREADY',
      errno: -114,
      syscall: 'poll',
      args: 'AF_UNIX, SOCK_DGRAM',
    });
    close();
    withSocket(AF_UNIX, SOCK_STREAM, 0, (stream) => {
      assertSystemError(() => stream.startPolling({ onThrow() {} }), {
        code: 'EOPNOTSUPP',
        errno: -95,
        syscall: 'poll',
        args: 'AF_UNIX, SOCK_STREAM',
      });
    });
  });

  it('watchWritable() and pausePolling() without startPolling() are refused', () => {
    const { sender, close } = unixPair();
    for (const call of [() => sender.watchWritable(), () => sender.pausePolling(true)]) {
      assertSystemError(call, {
        code: 'ENOTCONN',
        errno: -107,
        syscall: 'poll',
        args: 'AF_UNIX, SOCK_DGRAM',
      });
    }
    close();
  });
});

describe('what goes well', () => {
  it('localAddress() gives what bind() was given', () => {
    withSocket(AF_INET6, SOCK_DGRAM, 0, (socket) => {
      socket.bind(sockaddrInet6(LOOPBACK, 0));
      const bound = socket.localAddress();
      assert.equal(bound.length, 28);
      assert.deepEqual(bound.subarray(8, 24), LOOPBACK);
    });
  });

  it('setOption() and numberOption() carry an int, on handles and on descriptors', () => {
    withSocket(AF_UNIX, SOCK_DGRAM, 0, (socket) => {
      socket.setOption(SOL_SOCKET, SO_RCVBUF, 8192);
      assert.equal(socket.numberOption(SOL_SOCKET, SO_RCVBUF), 16_384, 'the kernel doubles it');
      const fd = socket.release();
      setSocketOptionOnFd(fd, SOL_SOCKET, SO_RCVBUF, 4096);
      const doubled = socketOptionOnFd(fd, SOL_SOCKET, SO_RCVBUF, 4);
      assert.equal(new DataView(doubled.buffer).getInt32(0, true), 8192);
      closeSync(fd);
    });
  });

  it('bootTimeMs() follows /proc/uptime, realTimeMs() the wall clock', () => {
    const uptimeMs = Number(readFileSync('/proc/uptime', 'utf8').split(' ')[0]) * 1000;
    assert.ok(Math.abs(native.bootTimeMs() - uptimeMs) < 1000);
    assert.ok(Math.abs(native.realTimeMs() - Date.now()) < 1000);
  });
});
