// From 3.2: as before, and LibreChat gives the headers of its user's token with a function, or none at all.
'use strict';

const callWithNode = require('./generation_b.cjs');

module.exports = (order) => {
  const { headers } = order;
  const authHeaders = headers == null ? undefined : async () => headers;
  return callWithNode({ ...order, params: { ...order.params, authHeaders } });
};
