import type { ByteWriter } from '../lib/bytes.ts';
import { AF_INET, AF_INET6 } from '../sys/constants.ts';
import { padding } from './netlink-codec.ts';

/** The frame of a netlink message and its attributes, for whoever writes one. */

/** Writes a header whose length is not known yet; returns where it starts, for `endMessage()`. */
export function beginMessage(writer: ByteWriter, type: number, flags: number, sequence: number): number {
  const start = writer.length;
  writer.u32Host(0).u16Host(type).u16Host(flags).u32Host(sequence).u32Host(0);
  return start;
}

export function endMessage(writer: ByteWriter, start: number): ByteWriter {
  writer.patchU32Host(start, writer.length - start);
  return writer.zeros(padding(writer.length));
}

export function writeAttribute(writer: ByteWriter, type: number, value: Uint8Array): void {
  const length = value.length + 4;
  writer.u16Host(length).u16Host(type).bytes(value).zeros(padding(length));
}

export function writeU32Attribute(writer: ByteWriter, type: number, value: number): void {
  writer.u16Host(8).u16Host(type).u32Host(value);
}

/** An attribute that consists of attributes: those that `write` writes. */
export function writeNested(writer: ByteWriter, type: number, write: () => void): void {
  const start = writer.length;
  writer.u16Host(0).u16Host(type);
  write();
  // What is nested ends at a multiple of four already.
  writer.patchU16Host(start, writer.length - start);
}

export function wireFamily(family: 'v4' | 'v6'): number {
  return family === 'v4' ? AF_INET : AF_INET6;
}
