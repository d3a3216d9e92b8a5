/** What is going to happen, in order of time, and of scheduling where times are equal: the clock of a simulation. */
export class EventQueue {
  /** Milliseconds since the simulation began. */
  now = 0;
  /** How many events have run. */
  count = 0;
  /** Of everything that happened so far and when: equal for two runs that were the same. */
  trace = 0;
  // A binary heap in three parallel arrays: no object for each event beyond its own closure.
  readonly #times: number[] = [];
  readonly #orders: number[] = [];
  readonly #tasks: (() => void)[] = [];
  #order = 0;

  at(time: number, task: () => void): void {
    const order = this.#order++;
    const times = this.#times;
    let index = times.length;
    times.push(time);
    this.#orders.push(order);
    this.#tasks.push(task);
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if ((times[parent] ?? 0) <= time) break;
      this.#move(parent, index);
      index = parent;
    }
    this.#set(index, time, order, task);
  }

  in(delay: number, task: () => void): void {
    this.at(this.now + delay, task);
  }

  /** Runs everything that is due until `time`, and is there then. */
  runUntil(time: number): void {
    const times = this.#times;
    while (times.length > 0 && (times[0] ?? 0) <= time) {
      const task = this.#pop();
      this.count += 1;
      this.note(this.now * 4_096);
      task();
    }
    this.now = time;
  }

  /** Makes `value` part of the trace. */
  note(value: number): void {
    this.trace = Math.imul(this.trace ^ value, 0x01000193);
  }

  #pop(): () => void {
    const times = this.#times;
    const first = this.#tasks[0];
    if (first === undefined) throw new Error('the queue is empty');
    this.now = times[0] ?? 0;
    const time = times.pop() ?? 0;
    const order = this.#orders.pop() ?? 0;
    const task = this.#tasks.pop();
    const size = times.length;
    if (size === 0 || task === undefined) return first;
    let index = 0;
    for (;;) {
      let child = 2 * index + 1;
      if (child >= size) break;
      if (child + 1 < size && this.#isBefore(child + 1, child)) child += 1;
      const childTime = times[child] ?? 0;
      if (childTime > time || (childTime === time && (this.#orders[child] ?? 0) > order)) break;
      this.#move(child, index);
      index = child;
    }
    this.#set(index, time, order, task);
    return first;
  }

  #isBefore(left: number, right: number): boolean {
    const leftTime = this.#times[left] ?? 0;
    const rightTime = this.#times[right] ?? 0;
    if (leftTime !== rightTime) return leftTime < rightTime;
    return (this.#orders[left] ?? 0) < (this.#orders[right] ?? 0);
  }

  #move(from: number, to: number): void {
    this.#times[to] = this.#times[from] ?? 0;
    this.#orders[to] = this.#orders[from] ?? 0;
    const task = this.#tasks[from];
    if (task !== undefined) this.#tasks[to] = task;
  }

  #set(index: number, time: number, order: number, task: () => void): void {
    this.#times[index] = time;
    this.#orders[index] = order;
    this.#tasks[index] = task;
  }
}
