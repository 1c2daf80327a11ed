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

// --- the pictures and their predictions -------------------------------------------------------------------

let selected = ''; // the camera that is shown large; a single one has no name
const seen = new Map(); // camera -> number of the picture shown last

async function watch() {
  for (;;) {
    if (document.hidden) await new Promise((back) => document.addEventListener('visibilitychange', back, { once: true }));
    const cameras = status.cameras ?? [{ name: '' }];
    // A browser opens few connections: several cameras are asked in turn, and none is waited for
    const wait = cameras.length > 1 ? 0 : 2;
    let any = false;
    for (const { name } of cameras) any = await next(name, wait) || any;
    if (!any && wait === 0) await sleep(50);
  }
}

async function next(camera, wait) {
  try {
    const response = await fetch(`v1/frame?after=${seen.get(camera) ?? 0}&wait=${wait}&camera=${encodeURIComponent(camera)}`, { cache: 'no-store' });
    if (response.status === 401) location.assign('login');
    if (!response.ok) await sleep(1000);
    if (response.status !== 200) return false;
    const result = JSON.parse(response.headers.get('X-Rmatk-Result'));
    const picture = URL.createObjectURL(await response.blob());
    seen.set(camera, result.number);
    await showPicture(camera, picture);
    if (camera === selected) showResult(result);
    if (card(camera)) card(camera).children[2].textContent = answers(result);
    return true;
  } catch {
    await sleep(1000); // showStatus tells that the server is away
    return false;
  }
}

const answers = ({ label, regions }) => regions.map((r) => `${r.name}: ${r.label ?? 'unsure'}`).join(', ') || (label ?? 'unsure');

const card = (camera) => [...$('cameras').querySelectorAll('button')].find((button) => button.dataset.camera === camera);

async function showPicture(camera, address) {
  const shown = [card(camera)?.querySelector('img'), camera === selected && $('picture')].filter(Boolean);
  const before = shown.at(-1)?.src;
  for (const picture of shown) picture.src = address;
  await Promise.all(shown.map((picture) => picture.decode()));
  if (before) URL.revokeObjectURL(before);
}

function showCameras(cameras) {
  if (!cameras.some(({ name }) => name === selected)) selected = cameras[0].name;
  $('cameras').hidden = cameras.length === 1 && !cameras[0].name;
  if ($('cameras').hidden) return;
  if ($('cameras').children.length !== cameras.length) $('cameras').replaceChildren(...cameras.map(cameraCard));
  for (const { name, state, trouble, rate } of cameras) {
    const shown = card(name);
    shown.setAttribute('aria-pressed', name === selected);
    shown.dataset.state = trouble && state === 'live' ? 'lost' : state;
    shown.children[3].textContent = trouble ?? `${rate.toFixed(1)} per second`;
  }
}

function cameraCard({ name }) {
  const button = Object.assign(document.createElement('button'), { type: 'button' });
  button.dataset.camera = name;
  const picture = Object.assign(document.createElement('img'), { alt: '' });
  button.append(picture, ...['strong', 'span', 'small'].map((kind) => document.createElement(kind)));
  button.children[1].textContent = name;
  button.addEventListener('click', () => {
    selected = name;
    seen.delete(name); // its newest picture comes once more, for the large view
    $('boxes').replaceChildren();
    showStatus(status);
  });
  const row = document.createElement('li');
  row.append(button);
  return row;
}

function showResult(result) {
  showBoxes(result.regions);
  $('label').textContent = answers(result);
  $('sureness').textContent = result.regions.length ? '' : percent(result.top[0].probability);
  $('bars-title').textContent = result.region ? `Predictions: ${result.region}` : 'Predictions';
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

// --- regions ----------------------------------------------------------------------------------------------

function place(element, [x, y, w, h]) {
  const shares = { left: x, top: y, width: w, height: h };
  for (const [name, share] of Object.entries(shares)) element.style.setProperty(name, `${100 * share}%`);
}

function showBoxes(regions) {
  fitBoxes();
  const boxes = regions.map((region) => {
    const box = document.createElement('div');
    box.classList.toggle('rejected', region.rejected);
    box.append(Object.assign(document.createElement('span'), {
      textContent: `${region.name}: ${region.label ?? 'unsure'} ${percent(region.top[0].probability)}`,
    }));
    place(box, region.box);
    return box;
  });
  if (drawing) boxes.push(drawing.box);
  $('boxes').replaceChildren(...boxes);
}

function fitBoxes() { // over the picture itself, which may leave room beside it
  const { naturalWidth: width, naturalHeight: height, clientWidth, clientHeight } = $('picture');
  if (!width) return;
  const scale = Math.min(clientWidth / width, clientHeight / height);
  const box = { width: width * scale, height: height * scale };
  for (const side of ['width', 'height']) $('boxes').style.setProperty(side, `${box[side]}px`);
  $('boxes').style.setProperty('left', `${(clientWidth - box.width) / 2}px`);
  $('boxes').style.setProperty('top', `${(clientHeight - box.height) / 2}px`);
}

addEventListener('resize', fitBoxes);

let drawing = null;
const within = (share) => Math.min(1, Math.max(0, share));

function pointed(event) {
  const { left, top, width, height } = $('boxes').getBoundingClientRect();
  return [within((event.clientX - left) / width), within((event.clientY - top) / height)];
}

$('stage').addEventListener('pointerdown', (event) => {
  if (event.button !== 0 || event.pointerType === 'touch') return; // a finger scrolls
  event.preventDefault();
  fitBoxes();
  $('stage').setPointerCapture(event.pointerId);
  drawing = { from: pointed(event), box: Object.assign(document.createElement('div'), { className: 'new' }) };
  $('boxes').append(drawing.box);
});

$('stage').addEventListener('pointermove', (event) => {
  if (!drawing || drawing.done) return;
  const [[x0, y0], [x1, y1]] = [drawing.from, pointed(event)];
  const box = [Math.min(x0, x1), Math.min(y0, y1), Math.abs(x1 - x0), Math.abs(y1 - y0)];
  place(drawing.box, box);
  ['x', 'y', 'w', 'h'].forEach((side, n) => { $(`region-${side}`).value = (100 * box[n]).toFixed(1); });
});

$('stage').addEventListener('pointerup', () => {
  if (!drawing) return;
  const tiny = Number($('region-w').value) < 1 || Number($('region-h').value) < 1;
  drawing.done = true;
  if (tiny) stopDrawing();
  else $('region-name').focus();
});

$('stage').addEventListener('pointercancel', () => stopDrawing());

function stopDrawing() {
  drawing?.box.remove();
  drawing = null;
  $('region').reset();
}

function showRegions(regions) {
  const shown = regions.filter(({ camera }) => camera === '' || camera === selected);
  const text = JSON.stringify(shown);
  if ($('regions').dataset.shown === text) return;
  $('regions').dataset.shown = text;
  $('regions').replaceChildren(...shown.map(({ camera, name, box }) => {
    const row = document.createElement('li');
    row.append(Object.assign(document.createElement('span'), { textContent: `${name}: ${box.join(', ')}` }));
    row.append(labelButton('Remove', name, async () => {
      try {
        showRegions((await ask('v1/regions/remove', { camera, name })).regions);
      } catch (error) {
        say(error.message, true);
      }
    }));
    return row;
  }));
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
  showCameras(now.cameras);
  showRegions(now.regions);
  $('source').textContent = now.cameras.find(({ name }) => name === selected).address;
  $('engine').textContent = now.engine;
  const camera = now.cameras.find(({ name }) => name === selected);
  $('rate').textContent = camera.rate.toFixed(1);
  $('latency').textContent = camera.latency_ms ? `${camera.latency_ms.p50.toFixed(0)} ms (99 %: ${camera.latency_ms.p99.toFixed(0)})` : '–';
  $('frames').textContent = camera.frames;
  $('dropped').textContent = camera.dropped;
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
  const { file, snapshots } = await ask('v1/snapshots', { label: $('snapshot-label').value, camera: selected });
  showCounts(snapshots);
  say(`Saved ${file}.`);
});

onSubmit('region', async () => {
  const box = ['x', 'y', 'w', 'h'].map((side) => `${Number($(`region-${side}`).value)}%`);
  const name = $('region-name').value;
  showRegions((await ask('v1/regions', { camera: selected, name, box })).regions);
  stopDrawing();
  say(`${name} is classified from now on, and kept beside the bundle.`);
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
