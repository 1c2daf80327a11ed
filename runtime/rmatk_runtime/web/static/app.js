// The page: asks for the picture after the one it shows, and once a second for how the run goes.

const $ = (id) => document.getElementById(id);
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
const percent = (p) => `${(100 * p).toFixed(p > 0.995 || p < 0.005 ? 0 : 1)} %`;
let status = { labels: [] };
let sliding = false; // the slider is the person's until the server has heard of it
let messageTimer = 0;

async function ask(path, body) {
  const options = body && {
    method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body),
  };
  const response = await fetch(path, { cache: 'no-store', ...options });
  if (response.status === 401) location.assign('login');
  const answer = await response.json();
  if (!response.ok) throw new Error([answer.error, answer.hint].filter(Boolean).join('; '));
  return answer;
}

function say(text, bad = false) {
  clearTimeout(messageTimer);
  $('message').textContent = text;
  $('message').classList.toggle('bad', bad);
  $('message').hidden = false;
  messageTimer = setTimeout(() => { $('message').hidden = true; }, bad ? 12000 : 5000);
}

// --- the picture and its prediction -----------------------------------------------------------------------

async function watch() {
  for (let number = 0; ;) {
    if (document.hidden) await new Promise((seen) => document.addEventListener('visibilitychange', seen, { once: true }));
    try {
      const response = await fetch(`v1/frame?after=${number}`, { cache: 'no-store' });
      if (response.status === 401) location.assign('login');
      if (response.status === 200) {
        const result = JSON.parse(response.headers.get('X-Rmatk-Result'));
        await showPicture(await response.blob());
        showResult(result);
        number = result.number;
      } else if (!response.ok) {
        await sleep(1000);
      }
    } catch {
      await sleep(1000); // showStatus tells that the server is away
    }
  }
}

async function showPicture(blob) {
  const picture = $('picture');
  const before = picture.src;
  picture.src = URL.createObjectURL(blob);
  await picture.decode();
  if (before) URL.revokeObjectURL(before);
}

function showResult(result) {
  $('label').textContent = result.label ?? 'unsure';
  $('sureness').textContent = percent(result.top[0].probability);
  const bars = $('bars');
  bars.classList.toggle('rejected', result.rejected);
  while (bars.children.length > result.top.length) bars.lastChild.remove();
  result.top.forEach(({ label, probability }, place) => {
    const row = bars.children[place] ?? bars.appendChild(document.createElement('li'));
    if (!row.children.length) row.append(document.createElement('span'), document.createElement('span'));
    row.children[0].textContent = label;
    row.children[1].textContent = percent(probability);
    row.style.setProperty('--share', probability);
  });
}

// --- how the run goes -------------------------------------------------------------------------------------

async function follow() {
  for (;;) {
    try {
      showStatus(await ask('v1/status'));
    } catch (error) {
      showState('lost', 'no connection to the device');
    }
    await sleep(1000);
  }
}

function showState(state, text) {
  if ($('state').textContent !== text) $('state').textContent = text; // a reader says it once
  $('state').dataset.state = state;
}

function showStatus(now) {
  const changed = now.labels.join('\n') !== status.labels.join('\n');
  status = now;
  showState(now.trouble ? 'lost' : now.state, now.trouble ?? now.state);
  $('source').textContent = now.source;
  $('engine').textContent = now.engine;
  $('rate').textContent = now.rate.toFixed(1);
  $('latency').textContent = now.latency_ms ? `${now.latency_ms.p50.toFixed(0)} ms (99 %: ${now.latency_ms.p99.toFixed(0)})` : '–';
  $('frames').textContent = now.frames;
  $('dropped').textContent = now.dropped;
  if (!sliding) showThreshold(now.threshold ?? 0);
  const kept = now.kept_threshold === null ? 'The bundle rejects nothing.' : `The bundle's own: ${now.kept_threshold.toFixed(2)}.`;
  $('threshold-hint').textContent = `Holds for every output of this run. ${kept}`
    + (now.labels_changed ? ' It was fitted before the labels were changed, and may not suit.' : '');
  showCounts(now.snapshots);
  if (changed) showLabels();
}

function showThreshold(value) {
  $('slider').value = value;
  $('threshold-value').textContent = Number(value) ? Number(value).toFixed(2) : 'never';
}

function showCounts(counts) {
  for (const field of $('snapshot').elements) field.disabled = counts === null;
  $('counts').textContent = counts === null
    ? 'Start with --snapshots DIR to keep pictures for the next training.'
    : Object.entries(counts).map(([label, count]) => `${label}: ${count}`).join(', ') || 'None yet.';
}

async function showLabels() {
  const { labels } = await ask('v1/labels');
  $('labels').replaceChildren(...labels.map(labelRow));
  $('known').replaceChildren(...labels.map(({ name }) => Object.assign(document.createElement('option'), { value: name })));
}

function labelRow({ name, prompts }) {
  const row = document.createElement('li');
  const text = Object.assign(document.createElement('span'), { textContent: name, title: prompts.join('\n') });
  row.append(text, labelButton('Rename', name, rename), labelButton('Remove', name, remove));
  return row;
}

function labelButton(text, name, action) {
  const button = Object.assign(document.createElement('button'), { type: 'button', textContent: text });
  button.setAttribute('aria-label', `${text} ${name}`);
  button.addEventListener('click', () => action(name));
  return button;
}

// --- what a person can do ---------------------------------------------------------------------------------

function answered(dialog) {
  dialog.returnValue = '';
  dialog.showModal();
  return new Promise((done) => dialog.addEventListener('close', () => done(dialog.returnValue), { once: true }));
}

async function edit(action, body, done) {
  try {
    const { warnings } = await ask(`v1/labels/${action}`, body);
    say([done, ...warnings].join(' '), warnings.length > 0);
    return true;
  } catch (error) {
    say(error.message, true);
    return false;
  }
}

async function rename(name) {
  $('rename-title').textContent = `New name for ${name}`;
  $('rename-name').value = name;
  if (await answered($('rename'))) await edit('rename', { old: name, new: $('rename-name').value }, 'Renamed.');
}

async function remove(name) {
  $('remove-title').textContent = `Remove ${name}?`;
  if (await answered($('remove'))) await edit('remove', { name }, `${name} is removed.`);
}

function onSubmit(form, action) {
  $(form).addEventListener('submit', async (event) => {
    event.preventDefault();
    const button = $(form).querySelector('button');
    button.disabled = true;
    try {
      await action();
    } catch (error) {
      say(error.message, true);
    } finally {
      button.disabled = false;
    }
  });
}

onSubmit('add', async () => {
  const [name, prompt] = [$('add-name').value, $('add-prompt').value];
  if (await edit('add', { name, prompts: prompt ? [prompt] : [] }, `${name} is added.`)) $('add').reset();
});

onSubmit('snapshot', async () => {
  const { file, snapshots } = await ask('v1/snapshots', { label: $('snapshot-label').value });
  showCounts(snapshots);
  say(`Saved ${file}.`);
});

onSubmit('threshold', async () => {
  await ask('v1/threshold', { value: Number($('slider').value), keep: true });
  say('The bundle now rejects below this.');
});

$('slider').addEventListener('input', () => {
  sliding = true;
  showThreshold($('slider').value);
});
$('slider').addEventListener('change', async () => {
  try {
    await ask('v1/threshold', { value: Number($('slider').value) });
  } catch (error) {
    say(error.message, true);
  }
  sliding = false;
});

watch();
follow();
