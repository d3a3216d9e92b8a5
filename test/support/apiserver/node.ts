/** The strategies of the cluster-wide kinds: nodes and namespaces. */

import { type FieldError, invalidField, unsupportedField } from './errors.ts';
import { arrayOf, at, isObject, type KubeObject, objectOf, stringOf } from './json.ts';
import { labelsErrors } from './names.ts';
import type { Strategy } from './resources.ts';

const TAINT_EFFECTS = ['NoExecute', 'NoSchedule', 'PreferNoSchedule'];

export class NodeStrategy implements Strategy {
  prepareUpdate(node: KubeObject, old: KubeObject): void {
    node['status'] = old['status'];
  }

  prepareStatusUpdate(node: KubeObject, old: KubeObject): void {
    node['spec'] = old['spec'];
  }

  validate(node: KubeObject): FieldError[] {
    return arrayOf(at(node, 'spec', 'taints')).flatMap((taint, index) => {
      const field = `spec.taints[${index}]`;
      const effect = stringOf(at(taint, 'effect'));
      const errors = labelsErrors(
        { [stringOf(at(taint, 'key'))]: stringOf(at(taint, 'value')) },
        `${field}.key`,
      );
      if (!TAINT_EFFECTS.includes(effect))
        errors.push(unsupportedField(`${field}.effect`, effect, TAINT_EFFECTS));
      return errors;
    });
  }

  validateUpdate(node: KubeObject, old: KubeObject): FieldError[] {
    const before = stringOf(at(old, 'spec', 'podCIDR'));
    const errors = this.validate(node);
    if (before !== '' && before !== at(node, 'spec', 'podCIDR')) {
      errors.push(
        invalidField(
          'spec.podCIDR',
          at(node, 'spec', 'podCIDR') ?? '',
          'node updates may not change podCIDR except from "" to valid',
        ),
      );
    }
    return errors;
  }
}

export class NamespaceStrategy implements Strategy {
  prepareCreate(namespace: KubeObject): void {
    namespace['status'] = { phase: 'Active' };
    const spec = objectOf(namespace['spec']);
    namespace['spec'] = { ...spec, finalizers: ['kubernetes'] };
    const labels = objectOf(namespace.metadata['labels']);
    namespace.metadata['labels'] = { ...labels, 'kubernetes.io/metadata.name': namespace.metadata.name };
  }

  prepareUpdate(namespace: KubeObject, old: KubeObject): void {
    namespace['spec'] = old['spec'];
    namespace['status'] = old['status'];
    if (isObject(namespace.metadata['labels'])) {
      namespace.metadata['labels']['kubernetes.io/metadata.name'] = namespace.metadata.name;
    }
  }

  prepareStatusUpdate(namespace: KubeObject, old: KubeObject): void {
    namespace['spec'] = old['spec'];
  }
}
