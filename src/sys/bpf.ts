import { ByteWriter } from '../lib/bytes.ts';

/** Classic BPF for SO_ATTACH_FILTER (struct sock_filter, linux/filter.h; the kernel's filter.rst). */
export type Instruction = readonly [
  code: number,
  /** How many instructions to skip when the comparison holds, and when not. */
  jumpTrue: number,
  jumpFalse: number,
  operand: number,
];

/** BPF_LD | BPF_W | BPF_ABS: four bytes in network order. */
export const LOAD_WORD = 0x20;
/** BPF_LD | BPF_H | BPF_ABS: two bytes in network order. */
export const LOAD_HALF = 0x28;
/** BPF_LD | BPF_B | BPF_ABS */
export const LOAD_BYTE = 0x30;
/** BPF_JMP | BPF_JEQ | BPF_K */
export const JUMP_EQUAL = 0x15;
/** BPF_RET | BPF_K: how many bytes of the packet to keep. */
export const RETURN = 0x06;
export const KEEP_ALL = 0xffff_ffff;
export const DROP = 0;
/** SKF_AD_OFF + SKF_AD_PKTTYPE as an address: for whom the kernel takes the frame, one of PACKET_*. */
export const PACKET_TYPE = 0xffff_f000 + 4;

/** The program as `RawSocket.attachFilter()` takes it. */
export function assemble(program: readonly Instruction[]): Uint8Array {
  const writer = new ByteWriter(program.length * 8);
  for (const [code, jumpTrue, jumpFalse, operand] of program) {
    writer.u16Host(code).u8(jumpTrue).u8(jumpFalse).u32Host(operand);
  }
  return writer.finish();
}
