/** Why addresses that are to be where their endpoints are (externalTrafficPolicy Local) are not somewhere, in words. */

const POLICY = 'its externalTrafficPolicy is Local, and';
const NODES_NAMED = 3;

/** Why a host has no part in an address of which only these nodes have endpoints. */
export function withoutEndpoint(nodes: ReadonlySet<string>): string {
  if (nodes.size === 0) return `${POLICY} no node has a usable endpoint`;
  return `${POLICY} no endpoint is here, but on ${someOf(nodes)}`;
}

/** Why no host may have it. */
export function withoutHost(nodes: ReadonlySet<string>): string {
  if (nodes.size === 0) return `no host may have it now: ${withoutEndpoint(nodes)}`;
  return `no host may have it now: ${POLICY} its endpoints are on ${someOf(nodes)}, where no host may have it`;
}

function someOf(nodes: ReadonlySet<string>): string {
  const named = [...nodes].sort().slice(0, NODES_NAMED).join(', ');
  return nodes.size > NODES_NAMED ? `${named} and ${nodes.size - NODES_NAMED} more` : named;
}
