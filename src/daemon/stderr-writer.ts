import { write, writeSync } from 'node:fs';

const STDERR = 2;
const RETRY_MS = 10;
/** At the end of the process, a reader that stands still is given so many chances of `RETRY_MS`. */
const FLUSH_RETRIES = 20;

/**
 * Lines on stderr that never wait for whoever reads them: what a slow reader leaves waits up to a limit, what comes
 * beyond that is dropped, and a reader that is gone costs nothing but its lines.
 */
export class StderrWriter {
  readonly #limitBytes: number;
  #waiting: string[] = [];
  #waitingBytes = 0;
  #isWriting = false;

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  write(line: string): void {
    if (this.#waitingBytes + line.length > this.#limitBytes) return;
    this.#waiting.push(line);
    this.#waitingBytes += line.length;
    if (!this.#isWriting) this.#writeNext();
  }

  /** Writes what waits, as far as that is possible without waiting long: the last thing a process does. */
  flush(): void {
    let rest = this.#take();
    for (let tries = 0; rest.length > 0 && tries < FLUSH_RETRIES; ) {
      try {
        rest = rest.subarray(writeSync(STDERR, rest));
      } catch (error) {
        if (!isBusy(error)) return;
        tries += 1;
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, RETRY_MS);
      }
    }
  }

  #writeNext(): void {
    const chunk = this.#take();
    this.#isWriting = chunk.length > 0;
    if (this.#isWriting) this.#writeOut(chunk);
  }

  #writeOut(chunk: Buffer): void {
    write(STDERR, chunk, 0, chunk.length, null, (error, written) => {
      if (error !== null && isBusy(error)) {
        setTimeout(() => this.#writeOut(chunk), RETRY_MS).unref();
        return;
      }
      const rest = error === null ? chunk.subarray(written) : chunk.subarray(chunk.length);
      if (rest.length > 0) this.#writeOut(rest);
      else this.#writeNext();
    });
  }

  #take(): Buffer {
    const chunk = Buffer.from(this.#waiting.join(''));
    this.#waiting = [];
    this.#waitingBytes = 0;
    return chunk;
  }
}

function isBusy(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'EAGAIN';
}
