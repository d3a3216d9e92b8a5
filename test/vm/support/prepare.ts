import { imageObstacle } from './image.ts';
import { MachineLab } from './machine-lab.ts';
import { SKIP } from './requirements.ts';

/** Makes the machine that tests wake, before any of them is timed; kept in .cache/vm, it takes a minute once. */

if (SKIP === false && (await imageObstacle('bookworm')) === false) await MachineLab.prepare('bookworm');
