/** Thrown away is everything from the line that was too long on: the stream must be closed. */
export const LINE_TOO_LONG = Symbol('line too long');

/**
 * Cuts a byte stream into lines at LF. Bytes are decoded only when a line is whole, so that a chunk may end inside a
 * UTF-8 sequence; a line of more than `limitBytes` ends the stream, because nothing may grow without bound.
 */
export class LineSplitter {
  readonly #limitBytes: number;
  readonly #decoder = new TextDecoder();
  #pieces: Uint8Array[] = [];
  #pieceBytes = 0;

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  /** The lines that `chunk` completes, without LF and without empty ones; or LINE_TOO_LONG. */
  push(chunk: Uint8Array): readonly string[] | typeof LINE_TOO_LONG {
    const lines: string[] = [];
    let start = 0;
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, start)) {
      const line = this.#finish(chunk.subarray(start, end));
      if (line === LINE_TOO_LONG) return LINE_TOO_LONG;
      if (line !== '') lines.push(line);
      start = end + 1;
    }
    if (start < chunk.length) {
      this.#pieceBytes += chunk.length - start;
      if (this.#pieceBytes > this.#limitBytes) return LINE_TOO_LONG;
      this.#pieces.push(chunk.subarray(start));
    }
    return lines;
  }

  #finish(last: Uint8Array): string | typeof LINE_TOO_LONG {
    if (this.#pieces.length === 0) {
      return last.length > this.#limitBytes ? LINE_TOO_LONG : this.#decoder.decode(last);
    }
    const whole = new Uint8Array(this.#pieceBytes + last.length);
    if (whole.length > this.#limitBytes) return LINE_TOO_LONG;
    let at = 0;
    for (const piece of this.#pieces) {
      whole.set(piece, at);
      at += piece.length;
    }
    whole.set(last, at);
    this.#pieces = [];
    this.#pieceBytes = 0;
    return this.#decoder.decode(whole);
  }
}
