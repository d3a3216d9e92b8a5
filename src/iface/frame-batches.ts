import type { Ip } from '../lib/ip.ts';
import { announcementFrames } from './frames.ts';
import type { Announced } from './local-types.ts';
import type { Nic } from './nic-selection.ts';
import type { IfIndex } from './types.ts';

/** What a frame is for: a question about an address, or one form of its announcement. */
type Purpose = { readonly kind: 'probe'; readonly ip: Ip } | ({ readonly kind: 'announcement' } & Announced);

type Batch = { readonly frames: Uint8Array[]; readonly purposes: Purpose[] };

export type Unsent = { readonly probes: readonly Ip[]; readonly announcements: readonly Announced[] };

/** The frames of one turn by NIC, and what became of what they are for. */
export class FrameBatches {
  readonly #batches = new Map<IfIndex, Batch>();
  readonly #probes: Ip[] = [];
  readonly #announcements: Announced[] = [];

  /** `frame` asks whether anybody has `ip`. */
  probe({ ifIndex }: Pick<Nic, 'ifIndex'>, ip: Ip, frame: Uint8Array): void {
    this.#add(ifIndex, frame, { kind: 'probe', ip });
  }

  /** One form or both; `nic` is undefined when there is none to send them on. */
  announce(nic: Nic | undefined, ip: Ip, form: 'first' | 'second' | 'both' | undefined): void {
    if (nic === undefined) {
      this.#announcements.push({ ip, form: form === 'second' ? 'second' : 'first' });
      return;
    }
    for (const [place, frame] of announcementFrames(nic.mac, ip, form).entries()) {
      const isSecond = form === 'second' || place > 0;
      this.#add(nic.ifIndex, frame, { kind: 'announcement', ip, form: isSecond ? 'second' : 'first' });
    }
  }

  /** Sends them; `send` returns which ones did not leave, by their place. */
  send(send: (ifIndex: IfIndex, frames: readonly Uint8Array[]) => readonly number[]): Unsent {
    for (const [ifIndex, { frames, purposes }] of this.#batches) {
      for (const place of send(ifIndex, frames)) {
        const purpose = purposes[place];
        if (purpose?.kind === 'probe') this.#probes.push(purpose.ip);
        else if (purpose !== undefined) this.#announcements.push({ ip: purpose.ip, form: purpose.form });
      }
    }
    return { probes: this.#probes, announcements: this.#announcements };
  }

  #add(ifIndex: IfIndex, frame: Uint8Array, purpose: Purpose): void {
    const batch = this.#batches.get(ifIndex) ?? { frames: [], purposes: [] };
    batch.frames.push(frame);
    batch.purposes.push(purpose);
    this.#batches.set(ifIndex, batch);
  }
}
