import { lifeOfLbd } from './support/life.ts';
import { SKIP } from './support/requirements.ts';

lifeOfLbd('bookworm', SKIP);
