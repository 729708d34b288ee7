// Runs tools of @librechat/agents as LibreChat does: one order per line on stdin, one answer per line on stdout.
// The file named in the arguments knows how LibreChat of one generation makes and calls its tools.
'use strict';

for (const name of ['log', 'debug', 'info', 'warn']) {
  console[name] = console.error; // stdout is for answers
}

const path = require('node:path');
const readline = require('node:readline');
const call = require(path.resolve(process.argv[2]));

async function answer(order) {
  try {
    return { ...(await call(order)), id: order.id };
  } catch (error) {
    return { id: order.id, status: 'error', content: error.message, artifact: null };
  }
}

readline.createInterface({ input: process.stdin }).on('line', async (line) => {
  process.stdout.write(`${JSON.stringify(await answer(JSON.parse(line)))}\n`);
});
process.stdout.write('{"ready":true}\n');
