// Loaded into npm by scripts/setup.sh (NODE_OPTIONS) on a machine whose own Node is older than the pinned one: npm
// leaves out optional packages whose `engines` the Node that runs npm does not meet, among them native parts of the
// tools. What is installed here runs on the pinned Node, so that is the version to judge by.
const { devDependencies } = require('../package.json');
Object.defineProperty(process, 'version', { value: `v${devDependencies.node}` });
