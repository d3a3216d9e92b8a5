import type { IpFamily, Service } from '../kube/types.ts';
import { type Family, familyOf, type Ip, parseIp } from '../lib/ip.ts';
import type { Refusal } from './types.ts';

/** Names the one pool that this Service's addresses come from. */
export const POOL_ANNOTATION = 'lbd.io/pool';
/** Names the addresses that this Service wants: at most one per family, separated by commas. */
export const ADDRESSES_ANNOTATION = 'lbd.io/addresses';
/** Services with the same value may share an address, as long as their ports do not clash. */
export const SHARING_KEY_ANNOTATION = 'lbd.io/sharing-key';

/** The addresses that a Service asks for by name, and where it does so. */
export type AddressRequest =
  | { readonly kind: 'none' }
  | { readonly kind: 'exact'; readonly source: string; readonly addresses: readonly Ip[] }
  | { readonly kind: 'invalid'; readonly refusal: Refusal };

/** The families that a Service should have addresses of, the first one first. */
export type FamilyRequest = {
  readonly families: readonly Family[];
  /** `all`: without one of them it gets none. `any`: it takes what there is. */
  readonly need: 'all' | 'any';
};

const NOTHING_ASKED: AddressRequest = { kind: 'none' };

/** `lbd.io/addresses`, or else `spec.loadBalancerIP`. */
export function requestedAddresses(service: Service): AddressRequest {
  const annotation = annotationOf(service, ADDRESSES_ANNOTATION);
  if (annotation !== undefined) return parseAddresses(ADDRESSES_ANNOTATION, annotation);
  const field = service.loadBalancerIp?.trim();
  if (field) return parseAddresses('spec.loadBalancerIP', field);
  return NOTHING_ASKED;
}

function parseAddresses(source: string, text: string): AddressRequest {
  const addresses: Ip[] = [];
  for (const part of text.split(',')) {
    const ip = parseIp(part.trim());
    if (ip === undefined) {
      return invalid(`${source}: expected IP addresses separated by commas, got ${quote(part.trim())}`);
    }
    const rival = addresses.find((other) => familyOf(other) === familyOf(ip));
    if (rival !== undefined) {
      return invalid(`${source}: expected at most one address per family, got ${rival} and ${ip}`);
    }
    addresses.push(ip);
  }
  return { kind: 'exact', source, addresses };
}

function invalid(reason: string): AddressRequest {
  return { kind: 'invalid', refusal: { code: 'address-invalid', reason } };
}

/** The pool that the Service names, or undefined. */
export function requestedPool(service: Service): string | undefined {
  return annotationOf(service, POOL_ANNOTATION);
}

/** The Service's sharing key, or undefined when it shares with nobody. */
export function sharingKey(service: Service): string | undefined {
  return annotationOf(service, SHARING_KEY_ANNOTATION);
}

function annotationOf(service: Service, name: string): string | undefined {
  const value = Object.hasOwn(service.annotations, name) ? service.annotations[name]?.trim() : undefined;
  return value === '' ? undefined : value;
}

/**
 * `spec.ipFamilies` under `spec.ipFamilyPolicy`. The API server puts only families there that the cluster has, so
 * PreferDualStack in a single-stack cluster asks for one family. A Service without any family counts as IPv4.
 */
export function requestedFamilies(service: Service): FamilyRequest {
  const families: Family[] = [];
  for (const name of service.ipFamilies) {
    const family = FAMILY_OF[name];
    if (!families.includes(family)) families.push(family);
  }
  if (families.length === 0) families.push('v4');
  if (service.ipFamilyPolicy === 'PreferDualStack') return { families, need: 'any' };
  if (service.ipFamilyPolicy === 'SingleStack') return { families: families.slice(0, 1), need: 'all' };
  if (families.length === 1) families.push(families[0] === 'v4' ? 'v6' : 'v4');
  return { families, need: 'all' };
}

const FAMILY_OF: Readonly<Record<IpFamily, Family>> = { IPv4: 'v4', IPv6: 'v6' };

const QUOTED_LENGTH = 64;

/** Text of a user in a message: bounded, and with what a terminal could act on escaped. */
export function quote(text: string): string {
  return text.length > QUOTED_LENGTH
    ? `${JSON.stringify(text.slice(0, QUOTED_LENGTH))}…`
    : JSON.stringify(text);
}
