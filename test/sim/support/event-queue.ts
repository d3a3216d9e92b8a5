/** What is going to happen, in order of time, and of scheduling where times are equal: the clock of a simulation. */
export class EventQueue {
  /** Milliseconds since the simulation began. */
  now = 0;
  /** How many events have run. */
  count = 0;
  /** Of everything that happened so far and when: equal for two runs that were the same. */
  trace = 0;
  // A binary heap in three parallel arrays: no object for each event beyond its own closure.
  #times = new Float64Array(FIRST_SIZE);
  #orders = new Float64Array(FIRST_SIZE);
  readonly #tasks: (() => void)[] = [];
  #order = 0;

  at(time: number, task: () => void): void {
    const tasks = this.#tasks;
    let index = tasks.length;
    tasks.push(task);
    if (index === this.#times.length) this.#grow();
    const times = this.#times;
    const orders = this.#orders;
    while (index > 0) {
      const parent = (index - 1) >> 1;
      const parentTime = times[parent] as number;
      if (parentTime <= time) break;
      times[index] = parentTime;
      orders[index] = orders[parent] as number;
      tasks[index] = tasks[parent] as () => void;
      index = parent;
    }
    times[index] = time;
    orders[index] = this.#order++;
    tasks[index] = task;
  }

  in(delay: number, task: () => void): void {
    this.at(this.now + delay, task);
  }

  /** Runs everything that is due until `time`, and is there then. */
  runUntil(time: number): void {
    while (this.#tasks.length > 0 && (this.#times[0] as number) <= time) {
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

  /** Takes the first task out; the last one of the heap sinks from there to its place. */
  #pop(): () => void {
    const tasks = this.#tasks;
    const times = this.#times;
    const orders = this.#orders;
    const first = tasks[0];
    const task = tasks.pop();
    if (first === undefined || task === undefined) throw new Error('the queue is empty');
    this.now = times[0] as number;
    const size = tasks.length;
    if (size === 0) return first;
    const time = times[size] as number;
    const order = orders[size] as number;
    let index = 0;
    for (;;) {
      let child = 2 * index + 1;
      if (child >= size) break;
      let childTime = times[child] as number;
      const right = child + 1;
      if (right < size) {
        const rightTime = times[right] as number;
        const isFirst = rightTime < childTime || (rightTime === childTime && isBefore(orders, right, child));
        if (isFirst) {
          child = right;
          childTime = rightTime;
        }
      }
      const childOrder = orders[child] as number;
      if (childTime > time || (childTime === time && childOrder > order)) break;
      times[index] = childTime;
      orders[index] = childOrder;
      tasks[index] = tasks[child] as () => void;
      index = child;
    }
    times[index] = time;
    orders[index] = order;
    tasks[index] = task;
    return first;
  }

  #grow(): void {
    const times = new Float64Array(2 * this.#times.length);
    const orders = new Float64Array(times.length);
    times.set(this.#times);
    orders.set(this.#orders);
    this.#times = times;
    this.#orders = orders;
  }
}

function isBefore(orders: Float64Array, left: number, right: number): boolean {
  return (orders[left] as number) < (orders[right] as number);
}

const FIRST_SIZE = 1_024;
