import type { Config } from '../config/types.ts';
import type { HostView } from '../iface/nic-selection.ts';
import { placeRange } from '../iface/range-placement.ts';
import type { Link } from '../iface/types.ts';
import {
  isVirtualLink,
  loadModule,
  strangerReason,
  type VirtualLinkType,
  WHY_BRIDGE,
} from '../iface/virtual-link.ts';
import type { ModuleState } from '../sys/kernel-module.ts';
import { error, note, type Remark, type Section, warning } from './check-report.ts';

/** On which link the virtual addresses of this host go. Nothing is said of a host on which no pool is virtual. */
export function describeVirtual(
  config: Config,
  host: HostView,
  links: Iterable<Link>,
  module: (type: VirtualLinkType) => ModuleState,
): Section {
  const title = 'Virtual addresses';
  const isNeeded = config.pools.some(({ ranges }) =>
    ranges.some((range) => placeRange(range, host).some(({ kind }) => kind === 'virtual')),
  );
  if (!isNeeded) return { title, remarks: [] };
  const { interface: name, type } = config.virtual;
  const link = [...links].find((each) => each.name === name);
  if (link !== undefined && !isVirtualLink(link))
    return { title, remarks: [error(`${strangerReason(link)}.`)] };
  if (link !== undefined) return { title, remarks: [describeLink(link, type)] };
  return { title, remarks: [describeNewLink(name, type, module)] };
}

function describeLink({ name, kind }: Link, type: Config['virtual']['type']): Remark {
  if (type === 'auto') {
    const why = kind === 'bridge' ? `: ${WHY_BRIDGE}` : '';
    return note(`They go on ${name}, a ${kind} that lbd made${why}.`);
  }
  if (type === kind) return note(`They go on ${name}, a ${kind} that lbd made.`);
  return note(`They go on ${name}, a ${kind} that lbd made, and makes anew as a ${type}.`);
}

function describeNewLink(
  name: string,
  type: Config['virtual']['type'],
  module: (type: VirtualLinkType) => ModuleState,
): Remark {
  const wanted = type === 'auto' ? 'dummy' : type;
  if (module(wanted) !== 'missing')
    return note(`They go on ${name}, a ${wanted} that lbd makes for the first one.`);
  const missing = `the kernel has no ${wanted} device`;
  if (type !== 'auto') return error(`lbd cannot make ${name}: ${missing}; ${loadModule(wanted)}.`);
  if (module('bridge') === 'missing') {
    return error(`lbd cannot make ${name}: the kernel has neither dummy nor bridge; ${loadModule('dummy')}.`);
  }
  return warning(
    `They go on ${name}, a bridge without ports, as ${missing}; for one, ${loadModule(wanted)}.`,
  );
}
