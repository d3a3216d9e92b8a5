import { lifeOfLbd } from './support/life.ts';
import { SKIP_LONG } from './support/requirements.ts';

lifeOfLbd('trixie', SKIP_LONG, 'long');
