import { imageObstacle } from './support/image.ts';
import { lifeOfLbd } from './support/life.ts';
import { SKIP } from './support/requirements.ts';

lifeOfLbd('bookworm', SKIP || (await imageObstacle('bookworm')));
