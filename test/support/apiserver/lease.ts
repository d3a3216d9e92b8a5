/** What the API refuses in a Lease. The time formats are refused earlier, when the body is decoded. */

import { type FieldError, forbiddenField, invalidField } from './errors.ts';
import { at, type KubeObject, numberOf, stringOf } from './json.ts';
import type { Strategy } from './resources.ts';

export class LeaseStrategy implements Strategy {
  validate(lease: KubeObject): FieldError[] {
    const errors: FieldError[] = [];
    const duration = at(lease, 'spec', 'leaseDurationSeconds');
    if (duration !== undefined && numberOf(duration) <= 0) {
      errors.push(invalidField('spec.leaseDurationSeconds', duration, 'must be greater than 0'));
    }
    const transitions = at(lease, 'spec', 'leaseTransitions');
    if (transitions !== undefined && numberOf(transitions) < 0) {
      errors.push(invalidField('spec.leaseTransitions', transitions, 'must be greater than or equal to 0'));
    }
    if (
      stringOf(at(lease, 'spec', 'preferredHolder')) !== '' &&
      stringOf(at(lease, 'spec', 'strategy')) === ''
    ) {
      errors.push(forbiddenField('spec.preferredHolder', 'may only be specified if `strategy` is defined'));
    }
    return errors;
  }

  validateUpdate(lease: KubeObject): FieldError[] {
    return this.validate(lease);
  }
}
