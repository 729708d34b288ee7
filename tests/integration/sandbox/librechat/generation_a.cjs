// Up to 3.0: a tool is made with the user's key and the files of the conversation; which session a call continues
// is an argument that the model itself gives.
'use strict';

const { createCodeExecutionTool } = require('@librechat/agents');

module.exports = async ({ params, args, id }) => {
  const tool = createCodeExecutionTool(params);
  const message = await tool.invoke({ type: 'tool_call', id: String(id), name: tool.name, args });
  return { status: message.status ?? 'success', content: message.content, artifact: message.artifact };
};
