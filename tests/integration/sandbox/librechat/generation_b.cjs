// Late 3.1: the node that runs tools keeps, for each conversation, the session and the files of the calls before,
// and hands them to the next call; LibreChat puts the files there that the user has uploaded.
'use strict';

const agents = require('@librechat/agents');
const { AIMessage } = require('@librechat/agents/langchain/messages');

const make = { code: agents.createCodeExecutionTool, bash: agents.createBashExecutionTool };
const conversations = new Map();

function sessionsOf(conversation, primed) {
  if (!conversations.has(conversation)) {
    conversations.set(conversation, new Map());
  }
  const sessions = conversations.get(conversation);
  if (primed != null) {
    sessions.set(agents.Constants.EXECUTE_CODE, { ...primed, lastUpdated: Date.now() });
  }
  return sessions;
}

module.exports = async ({ id, tool, params, args, conversation, primed }) => {
  const made = make[tool](params);
  const node = new agents.ToolNode({ tools: [made], sessions: sessionsOf(conversation, primed) });
  const asked = { type: 'tool_call', id: String(id), name: made.name, args };
  const { messages } = await node.invoke(
    { messages: [new AIMessage({ content: '', tool_calls: [asked] })] },
    { configurable: { thread_id: conversation, run_id: `${conversation}-${id}` } },
  );
  const { status, content, artifact } = messages[0];
  return { status: status ?? 'success', content, artifact };
};
