import type { ConfigListing } from '../config/types.ts';
import type { Logger } from '../lib/logger.ts';
import { type ControlApi, ControlRefusal } from './control-server.ts';
import type { GossipService } from './gossip-service.ts';
import type { DrainStatus, Explanation, MembersDocument, StatusDocument } from './types.ts';
import { STATUS_VERSION } from './types.ts';

/** What the control socket answers of a daemon. */
export type ControlHost = {
  readonly status: () => StatusDocument;
  readonly config: () => ConfigListing;
  /** Throws `ControlRefusal` for what is not known. */
  readonly explain: (subject: string) => Explanation;
  /** Undefined on a host that does not gossip. */
  readonly gossip: () => GossipService | undefined;
  readonly logger: Logger;
};

export function controlApi(host: ControlHost): ControlApi {
  const command = async (name: 'drain' | 'undrain' | 'rebalance'): Promise<DrainStatus> => {
    const gossip = gossipOf(host);
    await gossip.command(name);
    const status = gossip.drainStatus();
    host.logger.info({ command: name, ...status }, 'control.command');
    return status;
  };
  return {
    documents: {
      '/v1/status': () => host.status(),
      '/v1/config': () => host.config(),
      '/v1/members': (): MembersDocument => ({
        version: STATUS_VERSION,
        election: gossipOf(host).overview(),
      }),
      '/v1/drain': (): DrainStatus => gossipOf(host).drainStatus(),
      '/v1/explain': (query) => {
        const subject = query.get('subject');
        if (subject !== null && subject !== '') return host.explain(subject);
        throw new ControlRefusal(400, 'expected ?subject=, an address or the name of a Service');
      },
    },
    commands: {
      '/v1/drain': () => command('drain'),
      '/v1/undrain': () => command('undrain'),
      '/v1/rebalance': () => command('rebalance'),
    },
  };
}

function gossipOf({ gossip }: ControlHost): GossipService {
  const service = gossip();
  if (service !== undefined) return service;
  throw new ControlRefusal(
    409,
    'this host does not gossip, so it knows no other host: that takes a table [gossip] in its configuration and a restart of lbd',
  );
}
