import type { Config } from '../config/types.ts';
import type { TokenStatus } from '../kube/account-token.ts';
import type { AccessReport, ApiReport, KubeconfigReport } from '../kube/io/access-check.ts';
import type { Permission } from '../kube/permissions.ts';
import { error, note, type Remark, type Section, unseen, warning } from './check-report.ts';
import { formatAge } from './text.ts';

/** What the kubeconfig and the API server came to. Pure. */
export function describeAccess(config: Config, report: AccessReport): Section {
  const { kubernetes } = config;
  return {
    title: 'Kubernetes',
    remarks: [
      note(classText(kubernetes.loadBalancerClass)),
      ...describeKubeconfig(kubernetes.kubeconfig, report.kubeconfig),
      ...(report.api === undefined ? [] : describeApi(report.api, kubernetes.leaseNamespace)),
    ],
  };
}

function classText(loadBalancerClass: string | undefined): string {
  const which = loadBalancerClass === undefined ? 'that name no class' : `of class ${loadBalancerClass}`;
  return `lbd serves Services of type LoadBalancer ${which}.`;
}

function describeKubeconfig(path: string, report: KubeconfigReport): readonly Remark[] {
  switch (report.kind) {
    case 'unseen':
      return [unseen(`${path}, which this user may not read, and with it the API server; run this as root.`)];
    case 'unusable':
      return [error(`${report.problem}; "lbctl kubeconfig" makes a new one.`)];
    case 'usable':
      return [
        note(`${path} names the API server ${report.server}.`),
        ...(report.token === undefined ? [] : [describeToken(report.token)]),
      ];
    default:
      return report satisfies never;
  }
}

function describeToken({ account, expiresInMs, renewsInMs }: TokenStatus): Remark {
  const what = `Its token is that of the ServiceAccount ${account}`;
  if (expiresInMs <= 0) {
    return error(
      `${what} and expired ${formatAge(-expiresInMs)} ago: make a new one with "lbctl kubeconfig".`,
    );
  }
  const renewal = renewsInMs > 0 ? `in ${formatAge(renewsInMs)}` : 'as soon as it runs';
  return note(`${what}, valid for ${formatAge(expiresInMs)}; lbd renews it ${renewal}.`);
}

function describeApi(report: ApiReport, leaseNamespace: string): readonly Remark[] {
  if (report.kind === 'failed') return [error(`The API server cannot be used: ${report.problem}.`)];
  const { version, tookMs, asked, missing } = report;
  const who = version === undefined ? 'The API server' : `The API server, Kubernetes ${version},`;
  const answers = note(`${who} answered in ${Math.max(1, Math.round(tookMs))} ms.`);
  if (missing.length === 0) return [answers, note(`It allows lbd all ${asked} things that lbd asks of it.`)];
  return [
    answers,
    ...missing.map((permission) => describeMissing(permission, leaseNamespace)),
    note('/usr/share/lbd/kubernetes/rbac.yaml grants all of them, and so does "lbctl kubeconfig".'),
  ];
}

function describeMissing(permission: Permission, leaseNamespace: string): Remark {
  const { verb, resource, group, name, scope, reason, isRequired } = permission;
  const where = { cluster: '', lease: ` in namespace ${leaseNamespace}`, self: ' in its own namespace' }[
    scope
  ];
  const what = `${verb} ${resource}${group === '' ? '' : `.${group}`}${name === undefined ? '' : ` ${name}`}${where}`;
  const say = isRequired ? error : warning;
  return say(`The API server does not let lbd ${what}, which it needs to ${reason}.`);
}
